#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>

namespace trireme {

/// Zeroed memory, 64-byte aligned; in huge pages, where the system grants them, if it is large.
class StateMemory {
 public:
  StateMemory() = default;
  explicit StateMemory(std::size_t bytes);

  std::byte* data() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };

  std::unique_ptr<std::byte, Free> memory_;
};

}  // namespace trireme
