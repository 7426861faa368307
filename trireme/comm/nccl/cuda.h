#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <utility>

/// The part of the CUDA runtime that moving buffers takes, with owners for what it hands out.
namespace trireme::cuda {

/// Throws CommError with CUDA's own text unless `code`, of the CUDA function `call`, is a success.
void check(cudaError_t code, const char* call);

/// While it lives `device` is the one that this thread's CUDA calls are for.
class OnDevice {
 public:
  explicit OnDevice(int device);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
};

/// A queue of work on a device, not ordered with the default stream.
class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// A point in a stream. Move-only.
class Event {
 public:
  Event();
  ~Event();
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }

  void record(cudaStream_t stream);
  /// What `stream` is given from now on waits for this point.
  void make_wait(cudaStream_t stream) const;
  bool is_done() const;

 private:
  cudaEvent_t event_ = nullptr;
};

/// Memory of the device that was current when it was made; zeroed.
class DeviceMemory {
 public:
  explicit DeviceMemory(std::size_t bytes);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
};

/// Memory that is there for what is queued on `stream` during its life, and given back once that
/// has been done: neither is waited for.
class QueuedMemory {
 public:
  QueuedMemory(std::size_t bytes, cudaStream_t stream);
  ~QueuedMemory();
  QueuedMemory(const QueuedMemory&) = delete;
  QueuedMemory& operator=(const QueuedMemory&) = delete;

  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
  cudaStream_t stream_;
};

/// The device on whose memory `data` points, or -1 if it lies on none.
int device_of(const void* data);

}  // namespace trireme::cuda
