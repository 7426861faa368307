#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "trireme/base/buffer.h"
#include "trireme/comm/communicator.h"

/// Buffers on CUDA devices: NCCL (https://docs.nvidia.com/deeplearning/nccl) moves them between the
/// ranks of any communicator. One device a rank; no two ranks share one.
namespace trireme::nccl {

struct Options {
  /// How long a collective may take once all ranks have called it, before it ends in CommError.
  std::chrono::milliseconds timeout = std::chrono::minutes(30);
  /// Sum in the order of the ReductionTree, with the bits that the CPU gives (NaNs aside). Without
  /// it NCCL sums, in an order of its own.
  bool reproducible = true;
  /// The stream (a cudaStream_t) on which this thread's work for `device` is queued: a collective
  /// begins once what is queued there has been done. Null: CUDA's default stream.
  std::function<void*(int device)> stream;
};

/// The NCCL that trireme was built with: "NCCL 2.28.9"; empty if with none.
std::string library();

/// The CUDA devices that this process may use: none without NCCL or a driver. Initializes
/// CUDA; the process must not fork() afterwards.
int device_count();

/// The device on which this thread allocates from now on. Throws UsageError if there is no such.
void use_device(int device);

/// From now on `communicator`, and what is split from it, takes Buffers on devices. All ranks must
/// do so, or none. CUDA is not touched before the first of them comes, which all ranks must bring
/// to the same collective: they then meet, and errors of that are thrown there. Work::wait()
/// returns when the result is in device memory, for any stream to use; Work::wait(stream) makes a
/// stream wait instead. Both ends of a message must lie on devices, or neither. In a build without
/// NCCL it does nothing.
void carry_devices(Communicator& communicator, Options options = {});

/// Copies between devices and the memory of this process, whichever the two are, and returns when
/// it is done. Both must have the same count and type. Throws UsageError without NCCL.
void copy(Buffer to, Buffer from);

}  // namespace trireme::nccl
