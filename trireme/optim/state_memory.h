#pragma once

#include <cstddef>

namespace trireme {

/// Zeroed memory, 64-byte aligned; in huge pages, where the system grants them, if it is large.
/// What is never touched costs nothing then. Move-only.
class StateMemory {
 public:
  StateMemory() = default;
  explicit StateMemory(std::size_t bytes);
  StateMemory(StateMemory&& other) noexcept;
  StateMemory& operator=(StateMemory&& other) noexcept;
  ~StateMemory();

  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace trireme
