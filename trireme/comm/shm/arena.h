#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

namespace trireme::shm {

class Segment;

/// Allocates memory in one rank's part of the segment, zeroed: first fit, in whole pages; blocks of
/// a megabyte and more in whole huge pages. The list of gaps is private to the process that owns
/// the part. Thread-safe.
class Arena {
 public:
  Arena(Segment& segment, std::uint64_t begin, std::uint64_t bytes);

  /// Returns the offset in the segment, or nothing if no gap is large enough.
  std::optional<std::uint64_t> take(std::size_t bytes);

  /// Requires the same `bytes` as take().
  void give_back(std::uint64_t offset, std::size_t bytes);

  /// Returns the bytes of the largest gap.
  std::size_t largest_gap() const;

 private:
  Segment& segment_;
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::uint64_t> gaps_;  // begin -> end
};

}  // namespace trireme::shm
