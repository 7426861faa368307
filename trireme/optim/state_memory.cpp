#include "trireme/optim/state_memory.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

namespace trireme {

namespace {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

}  // namespace

StateMemory::StateMemory(std::size_t bytes) {
  const std::size_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
  bytes = (bytes + alignment - 1) / alignment * alignment;
  memory_.reset(static_cast<std::byte*>(std::aligned_alloc(alignment, bytes)));
  if (bytes > 0 && !memory_) throw std::bad_alloc();
  // Advice only: without huge pages it is slower, not wrong.
  if (alignment == kHugePage) madvise(memory_.get(), bytes, MADV_HUGEPAGE);
  if (bytes > 0) std::memset(memory_.get(), 0, bytes);
}

}  // namespace trireme
