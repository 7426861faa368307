#include "trireme/comm/shm/arena.h"

#include <algorithm>
#include <cstring>

#include "trireme/comm/shm/segment.h"

namespace trireme::shm {

namespace {

constexpr std::size_t kBigBytes = kHugePageBytes / 2;

std::uint64_t unit_of(std::size_t bytes) {
  return bytes >= kBigBytes ? kHugePageBytes : kPageBytes;
}

}  // namespace

Arena::Arena(Segment& segment, std::uint64_t begin, std::uint64_t bytes) : segment_(segment) {
  gaps_.emplace(begin, begin + bytes);
}

std::optional<std::uint64_t> Arena::take(std::size_t bytes) {
  const std::uint64_t unit = unit_of(bytes);
  const std::uint64_t length = round_up(bytes, unit);
  const std::lock_guard lock(mutex_);
  for (const auto& [gap, gap_end] : gaps_) {
    const std::uint64_t begin = round_up(gap, unit);
    if (begin > gap_end || gap_end - begin < length) continue;
    const std::uint64_t before = gap;
    const std::uint64_t after = gap_end;
    gaps_.erase(before);
    if (before < begin) gaps_.emplace(before, begin);
    if (begin + length < after) gaps_.emplace(begin + length, after);
    return begin;
  }
  return std::nullopt;
}

void Arena::give_back(std::uint64_t offset, std::size_t bytes) {
  const std::uint64_t length = round_up(bytes, unit_of(bytes));
  // Free memory is always zero, so that take() need not write to it.
  if (bytes >= kBigBytes) {
    segment_.discard(offset, length);
  } else {
    std::memset(segment_.base() + offset, 0, length);
  }
  const std::lock_guard lock(mutex_);
  auto gap = gaps_.emplace(offset, offset + length).first;
  if (const auto next = std::next(gap); next != gaps_.end() && next->first == gap->second) {
    gap->second = next->second;
    gaps_.erase(next);
  }
  if (gap != gaps_.begin()) {
    if (const auto previous = std::prev(gap); previous->second == gap->first) {
      previous->second = gap->second;
      gaps_.erase(gap);
    }
  }
}

std::size_t Arena::largest_gap() const {
  const std::lock_guard lock(mutex_);
  std::size_t largest = 0;
  for (const auto& [begin, end] : gaps_) largest = std::max<std::size_t>(largest, end - begin);
  return largest;
}

}  // namespace trireme::shm
