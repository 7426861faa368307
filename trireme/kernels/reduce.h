#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "trireme/base/buffer.h"
#include "trireme/kernels/reduction_tree.h"

namespace trireme {

enum class ReduceOp : std::uint8_t { kSum, kMean, kMin, kMax };

/// "sum", "mean", "min", "max".
std::string_view name_of(ReduceOp op);

/// out[i] = op over terms[0][i], terms[1][i], ... in the order of `tree`, for i < count, written to
/// every pointer of `outs`; an out may be one of the terms. One pass: each term is read once and
/// each out written once.
///
/// `terms`: one pointer per tree.terms(), aligned as its elements. kMean divides the sum by
/// tree.leaves(). f16 and bf16 are summed in f32 and rounded once at the end; the bits do not
/// depend on the vector width. Throws UsageError for kMean of integers.
void tree_reduce(std::span<void* const> outs, std::span<const void* const> terms,
                 const ReductionTree& tree, std::int64_t count, DType dtype, ReduceOp op);

/// into[i] += from[i], for f32, f64 and the other types alike.
void accumulate(Buffer into, const void* from);

}  // namespace trireme
