#pragma once

#include <cstdint>

namespace trireme {

/// Counts the memory that libtorch allocates for tensors on the CPU, on all threads of the process,
/// as long as it lives.
///
///     AllocationMeter meter;
///     const std::int64_t before = meter.live_bytes();
///     at::Tensor y = model->forward(x);
///     const std::int64_t kept = meter.live_bytes() - before;
///
/// Bytes are those that were asked for, without an allocator's padding. Memory that was allocated
/// before the meter was made is not counted, nor is its end. Memory that does not come from
/// libtorch's allocator is not seen: that of communicators, of optimizers, and what libraries
/// below libtorch take for themselves.
///
/// A process has one at a time. It must be made and destroyed while no other thread makes tensors;
/// live_bytes() and take_peak() belong to one thread.
class AllocationMeter {
 public:
  /// Throws UsageError if there is another one, or if the program has given libtorch an allocator
  /// without c10::Allocator::raw_deleter().
  AllocationMeter();
  ~AllocationMeter();
  AllocationMeter(const AllocationMeter&) = delete;
  AllocationMeter& operator=(const AllocationMeter&) = delete;

  /// What has been allocated and not yet freed.
  std::int64_t live_bytes() const;

  /// Returns the most bytes that were live at once since the last call, or since the meter was
  /// made.
  std::int64_t take_peak();
};

}  // namespace trireme
