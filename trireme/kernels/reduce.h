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

/// out[i] = (op over terms[0][i], terms[1][i], ... in the order of `tree`) / divisor, for i <
/// count, written to every pointer of `outs`; an out may be one of the terms. One pass: each term
/// is read once and each out is written once.
///
/// `terms`: one pointer for each of tree.terms(), aligned as its elements. kMean is kSum with the
/// divisor tree.virtual_workers(). f16 and bf16 are summed and divided in f32 and rounded once, at
/// the end; the bits do not depend on the vector width. A divisor other than 1 is divided by, which
/// is not the same as multiplying by 1 / divisor. Throws UsageError for a divisor other than 1 with
/// integers or with kMean.
void tree_reduce(std::span<void* const> outs, std::span<const void* const> terms,
                 const ReductionTree& tree, std::int64_t count, DType dtype, ReduceOp op,
                 double divisor = 1);

/// Throws UsageError unless `divisor` is finite and greater than 0, and 1 for integers. `call`
/// names the function in the error.
void require_divisor(std::string_view call, double divisor, DType dtype);

/// into[i] += from[i], for every type.
void accumulate(Buffer into, const void* from);

}  // namespace trireme
