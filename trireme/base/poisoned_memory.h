#pragma once

#include <cstddef>

namespace trireme {

/// Memory that must not be used: whatever type is read from it is NaN, or -1 in integers, and
/// writing to it ends the process. Costs 64 KiB, and beyond 256 MiB a 4096th of
/// its size. Neither copied nor moved.
class PoisonedMemory {
 public:
  /// Throws UsageError if the system does not give the memory.
  explicit PoisonedMemory(std::size_t bytes);
  ~PoisonedMemory();
  PoisonedMemory(const PoisonedMemory&) = delete;
  PoisonedMemory& operator=(const PoisonedMemory&) = delete;

  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace trireme
