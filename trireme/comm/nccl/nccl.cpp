#include "trireme/comm/nccl/nccl.h"

#include <fmt/format.h>

#include "trireme/base/error.h"
#include "trireme/comm/nccl/lane.h"

namespace trireme::nccl {

std::string library() {
  return fmt::format("NCCL {}.{}.{}", NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH);
}

int device_count() {
  int count = 0;
  // Without a driver there are none.
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  (void)cudaGetLastError();
  return 0;
}

void use_device(int device) {
  if (const int count = device_count(); device < 0 || device >= count) {
    throw UsageError(
        fmt::format("nccl: the CUDA device must be in [0, {}), got {}; nvidia-smi "
                    "lists the devices, and CUDA_VISIBLE_DEVICES chooses among them",
                    count, device));
  }
  cuda::check(cudaSetDevice(device), "cudaSetDevice");
}

void carry_devices(Communicator& communicator, Options options) {
  communicator.carry_devices(std::make_unique<Lane>(communicator, std::move(options)));
}

void copy(Buffer to, Buffer from) {
  if (to.count != from.count || to.dtype != from.dtype) {
    throw UsageError(
        fmt::format("nccl::copy: both must have one count and type, got {}[{}] to {}[{}]",
                    name_of(from.dtype), from.count, name_of(to.dtype), to.count));
  }
  if (from.count == 0) return;
  cuda::check(cudaMemcpy(to.data, from.data, from.bytes(), cudaMemcpyDefault), "cudaMemcpy");
  // From device to device it does not wait.
  cuda::check(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
}

}  // namespace trireme::nccl
