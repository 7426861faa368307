#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <string>
#include <vector>

/// CUDA's runtime as far as trireme uses it, on threads: devices whose memory lies in this process,
/// and streams that take their time. Linked in place of libcudart.
namespace trireme::test::fake {

/// Queues `work` on a stream of the device that is current on this thread; null is the default
/// stream, which waits for no other and is not waited for.
void queue(cudaStream_t stream, std::function<void()> work);

/// Returns when all that was queued on any stream has been done.
void wait_until_idle();

/// The devices of this machine, and what cudaMalloc says when it has none left.
void set_device_count(int count);

/// Bytes of device memory that nobody has given back.
std::size_t bytes_in_use();

/// What CUDA or NCCL would not have survived: calls in a wrong state, memory of a host, ranks that
/// call different things. Empties the list.
std::vector<std::string> take_offences();
void report_offence(std::string text);

/// True if all of `bytes` at `data` lie in the memory of one device.
bool is_device_memory(const void* data, std::size_t bytes);

}  // namespace trireme::test::fake
