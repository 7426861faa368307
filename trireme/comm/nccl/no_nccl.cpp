#include "trireme/base/error.h"
#include "trireme/comm/nccl/nccl.h"

namespace trireme::nccl {

namespace {

[[noreturn]] void refuse() {
  throw UsageError(
      "nccl: this trireme was built without NCCL; build it with a libtorch that has CUDA, or "
      "configure it with -DTRIREME_NCCL=ON");
}

}  // namespace

std::string library() {
  return "";
}

int device_count() {
  return 0;
}

void use_device(int) {
  refuse();
}

void carry_devices(Communicator&, Options) {}

void copy(Buffer, Buffer) {
  refuse();
}

}  // namespace trireme::nccl
