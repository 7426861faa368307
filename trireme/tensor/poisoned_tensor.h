#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "trireme/base/poisoned_memory.h"

namespace trireme {

/// A contiguous tensor of the shape and type of `like`, with a storage of its own over `poison`,
/// which must have room for it: it is NaN, and writing to it ends the process.
at::Tensor poisoned_tensor(const at::Tensor& like, std::shared_ptr<PoisonedMemory> poison);

}  // namespace trireme
