#include "trireme/world/cuda_stream.h"

#include <c10/cuda/CUDAStream.h>

namespace trireme {

std::function<void*(int device)> libtorch_stream() {
  return [](int device) -> void* {
    return c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device)).stream();
  };
}

}  // namespace trireme
