#include "trireme/base/poisoned_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"
#include "trireme/base/system_error.h"

namespace trireme {

namespace {

constexpr std::size_t kSmallestTile = std::size_t{64} << 10;
constexpr std::size_t kMostTiles = 4096;  // a process has 65530 mappings at most
constexpr int kNaN = 0xFF;                // all bits set: a NaN in each floating-point type

[[noreturn]] void refuse(const char* call, const std::string& reason) {
  throw UsageError(
      fmt::format("memory that marks freed parameters: {} has failed: {}", call, reason));
}

// A file in memory, filled, which is mapped again and again.
FileDescriptor filled_tile(std::size_t bytes) {
  FileDescriptor file(::memfd_create("trireme-poison", MFD_CLOEXEC));
  if (!file.is_open()) refuse("memfd_create()", memory_file_reason(errno));
  if (::ftruncate(file.fd(), static_cast<off_t>(bytes)) != 0) {
    refuse("ftruncate()", system_reason(errno));
  }
  void* const tile = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd(), 0);
  if (tile == MAP_FAILED) refuse("mmap()", system_reason(errno));
  std::memset(tile, kNaN, bytes);
  ::munmap(tile, bytes);
  return file;
}

}  // namespace

PoisonedMemory::PoisonedMemory(std::size_t bytes) {
  if (bytes == 0) return;
  std::size_t tile = kSmallestTile;
  while (bytes / tile > kMostTiles) tile *= 2;
  bytes_ = (bytes + tile - 1) / tile * tile;
  const FileDescriptor file = filled_tile(tile);
  data_ = ::mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data_ == MAP_FAILED) refuse("mmap()", system_reason(errno));
  for (std::size_t at = 0; at < bytes_; at += tile) {
    if (::mmap(static_cast<char*>(data_) + at, tile, PROT_READ, MAP_SHARED | MAP_FIXED, file.fd(),
               0) != MAP_FAILED) {
      continue;
    }
    const int error = errno;
    ::munmap(data_, bytes_);
    refuse("mmap()", system_reason(error));
  }
}

PoisonedMemory::~PoisonedMemory() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

}  // namespace trireme
