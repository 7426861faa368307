#pragma once

#include <cstddef>
#include <map>
#include <vector>

#include "trireme/base/zeroed_memory.h"
#include "trireme/comm/communicator.h"
#include "trireme/parallel/gradients/bucket_layout.h"

namespace trireme {

/// The memory of one rank for the rows of its buckets, which the other ranks of its host can read.
///
/// Either every bucket has a place of its own, or a bucket has memory only from its first gradient
/// to the end of its reduction: then there is room for a few buckets in a row, and what does not
/// fit lies in memory that is copied when it is reduced.
class BucketMemory {
 public:
  enum class Mode : std::uint8_t { kOwnPlaces, kReused };

  /// Collective. `layout` must outlive this object.
  BucketMemory(Communicator& ranks, const BucketLayout& layout, Mode mode);

  /// What a rank allocates in a mode.
  static std::size_t bytes_of(const BucketLayout& layout, int rank, Mode mode);

  /// The memory of a bucket; what it holds at first is undefined with kReused.
  void* of(std::size_t bucket);
  /// of(bucket) has memory, or would find some between that of the other buckets.
  bool has_room(std::size_t bucket) const;
  /// The bucket needs its memory no more. Does nothing with kOwnPlaces.
  void release(std::size_t bucket);

  /// The place of a bucket on another rank; null if this rank cannot see it. With kOwnPlaces alone.
  void* peer(int rank, std::size_t bucket) const;

 private:
  struct Place {
    std::size_t begin = 0;
    std::size_t end = 0;
  };
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  std::size_t find_room(std::size_t bytes) const;

  const BucketLayout& layout_;
  int rank_;
  Mode mode_;
  Memory memory_;
  std::map<std::size_t, Place> places_;         // kReused: of each bucket that has some, in memory_
  std::map<std::size_t, ZeroedMemory> beside_;  // kReused: of those that did not fit
};

}  // namespace trireme
