#include "trireme/base/zeroed_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace trireme {

namespace {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t round_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

bool is_mapped(std::size_t bytes) {
  return bytes >= kHugePage;
}

// Beginning on a huge page, which mmap() by itself does not.
std::byte* map(std::size_t bytes) {
  void* const all = ::mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) throw std::bad_alloc();
  const auto begin = reinterpret_cast<std::uintptr_t>(all);
  const std::uintptr_t aligned = round_up(begin, kHugePage);
  if (aligned > begin) ::munmap(all, aligned - begin);
  auto* const data = reinterpret_cast<std::byte*>(aligned);
  if (aligned < begin + kHugePage) ::munmap(data + bytes, begin + kHugePage - aligned);
  // Advice only: without huge pages it is slower, not wrong.
  ::madvise(data, bytes, MADV_HUGEPAGE);
  return data;
}

}  // namespace

ZeroedMemory::ZeroedMemory(std::size_t bytes)
    : bytes_(round_up(bytes, is_mapped(bytes) ? kPage : kCacheLine)) {
  if (bytes_ == 0) return;
  if (is_mapped(bytes_)) {
    data_ = map(bytes_);
    return;
  }
  data_ = static_cast<std::byte*>(std::aligned_alloc(kCacheLine, bytes_));
  if (data_ == nullptr) throw std::bad_alloc();
  std::memset(data_, 0, bytes_);
}

ZeroedMemory::ZeroedMemory(ZeroedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

ZeroedMemory& ZeroedMemory::operator=(ZeroedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

ZeroedMemory::~ZeroedMemory() {
  if (is_mapped(bytes_)) {
    ::munmap(data_, bytes_);
  } else {
    std::free(data_);
  }
}

}  // namespace trireme
