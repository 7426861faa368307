#pragma once

#include <nccl.h>

#include <cstdint>

#include "trireme/base/buffer.h"
#include "trireme/kernels/reduce.h"

namespace trireme::nccl {

/// NCCL's names of trireme's types and operations.
ncclDataType_t type_of(DType dtype);
ncclRedOp_t op_of(ReduceOp op);

inline std::size_t count_of(std::int64_t count) {
  return static_cast<std::size_t>(count);
}

}  // namespace trireme::nccl
