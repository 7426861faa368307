#pragma once

#include <functional>

namespace trireme {

/// Returns the CUDA stream (a cudaStream_t) on which libtorch queues what this thread computes on a
/// device; nothing if libtorch has no CUDA.
std::function<void*(int device)> libtorch_stream();

}  // namespace trireme
