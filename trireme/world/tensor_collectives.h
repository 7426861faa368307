#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "trireme/comm/communicator.h"

namespace trireme {

/// The collectives of Communicator on tensors:
///
///     at::Tensor all = torch::empty({rows_of_all, 512});
///     all_gather(world, all, mine, rows).wait();    // rank r has rows[r] rows, maybe none
///
/// All tensors must be contiguous, those of one call of one type and on one device; otherwise
/// UsageError is thrown before anything moves. An operation keeps its tensors alive until it is
/// done. Shapes are compared on this rank, counts and types between the ranks, as by Communicator.

Work all_reduce(Communicator& communicator, const at::Tensor& x, ReduceOp op = ReduceOp::kSum,
                SourceLocation where = SourceLocation::current());

Work broadcast(Communicator& communicator, const at::Tensor& x, int root,
               SourceLocation where = SourceLocation::current());

/// `out`: [sum of rows, ...], `in`: [rows[rank], ...]: the tensors of all ranks one after the other
/// along the first dimension. Without `rows` all ranks have as many.
Work all_gather(Communicator& communicator, const at::Tensor& out, const at::Tensor& in,
                std::span<const std::int64_t> rows = {},
                SourceLocation where = SourceLocation::current());

/// `in`: [sum of rows, ...], `out`: [rows[rank], ...]: rank r gets its rows of the sum.
Work reduce_scatter(Communicator& communicator, const at::Tensor& out, const at::Tensor& in,
                    std::span<const std::int64_t> rows = {}, ReduceOp op = ReduceOp::kSum,
                    SourceLocation where = SourceLocation::current());

/// Sends in_rows[r] rows of `in` to rank r, and receives out_rows[r] rows of `out` from it. Without
/// counts all pieces are equal.
Work all_to_all(Communicator& communicator, const at::Tensor& out, const at::Tensor& in,
                std::span<const std::int64_t> out_rows = {},
                std::span<const std::int64_t> in_rows = {},
                SourceLocation where = SourceLocation::current());

Work send(Communicator& communicator, const at::Tensor& x, int to, int tag = 0,
          SourceLocation where = SourceLocation::current());
Work recv(Communicator& communicator, const at::Tensor& x, int from, int tag = 0,
          SourceLocation where = SourceLocation::current());

}  // namespace trireme
