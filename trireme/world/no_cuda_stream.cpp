#include "trireme/world/cuda_stream.h"

namespace trireme {

std::function<void*(int device)> libtorch_stream() {
  return {};
}

}  // namespace trireme
