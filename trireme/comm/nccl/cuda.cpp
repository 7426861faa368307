#include "trireme/comm/nccl/cuda.h"

#include <fmt/format.h>

#include "trireme/base/error.h"

namespace trireme::cuda {

void check(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return;
  // Or the next call to be asked would say so again.
  (void)cudaGetLastError();
  throw CommError(fmt::format("{}: {}", call, cudaGetErrorString(code)));
}

OnDevice::OnDevice(int device) {
  check(cudaGetDevice(&before_), "cudaGetDevice");
  if (device != before_) check(cudaSetDevice(device), "cudaSetDevice");
}

OnDevice::~OnDevice() {
  (void)cudaSetDevice(before_);
}

Stream::Stream() {
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}

Stream::~Stream() {
  (void)cudaStreamDestroy(stream_);
}

Event::Event() {
  check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
}

Event::~Event() {
  if (event_) (void)cudaEventDestroy(event_);
}

void Event::record(cudaStream_t stream) {
  check(cudaEventRecord(event_, stream), "cudaEventRecord");
}

void Event::make_wait(cudaStream_t stream) const {
  check(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent");
}

bool Event::is_done() const {
  const cudaError_t code = cudaEventQuery(event_);
  if (code == cudaErrorNotReady) {
    (void)cudaGetLastError();
    return false;
  }
  check(code, "cudaEventQuery");
  return true;
}

DeviceMemory::DeviceMemory(std::size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  check(cudaMalloc(&data_, bytes), "cudaMalloc");
  check(cudaMemset(data_, 0, bytes), "cudaMemset");
  check(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
}

DeviceMemory::~DeviceMemory() {
  if (data_) (void)cudaFree(data_);
}

QueuedMemory::QueuedMemory(std::size_t bytes, cudaStream_t stream) : stream_(stream) {
  check(cudaMallocAsync(&data_, bytes, stream), "cudaMallocAsync");
}

QueuedMemory::~QueuedMemory() {
  (void)cudaFreeAsync(data_, stream_);
}

int device_of(const void* data) {
  cudaPointerAttributes attributes{};
  check(cudaPointerGetAttributes(&attributes, data), "cudaPointerGetAttributes");
  const bool is_device =
      attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  return is_device ? attributes.device : -1;
}

}  // namespace trireme::cuda
