#pragma once

#include <functional>

namespace trireme {

/// The CUDA stream on which libtorch queues what this thread computes on a device (a cudaStream_t);
/// empty where libtorch has no CUDA.
std::function<void*(int device)> libtorch_stream();

}  // namespace trireme
