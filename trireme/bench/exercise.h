#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/bench/collective.h"
#include "trireme/comm/communicator.h"

namespace trireme::bench {

/// The memory of a call: that of Communicator::allocate(), the heap, or this thread's CUDA device.
enum class Place : std::uint8_t { kAllocated, kHeap, kDevice };

/// "allocated", "heap", "device".
std::string_view name_of(Place place);

/// One operation of one size on one rank: its memory, its call, and the check of its result.
/// All-reduce, all-gather, reduce-scatter and broadcast are called in place.
class Exercise {
 public:
  /// Collective. `world` must outlive it.
  Exercise(Communicator& world, Collective collective, Shape shape, DType dtype, Place place);
  Exercise(const Exercise&) = delete;
  Exercise& operator=(const Exercise&) = delete;

  /// Starts the operation and waits for it. Collective.
  void call();

  /// Collective: calls it on known values and returns the number of wrong elements over all ranks.
  /// The values are whole numbers whose sums every type holds exactly. Sets the memory to zero.
  std::int64_t count_wrong();

 private:
  void fill();
  void clear();
  std::int64_t differences() const;

  Communicator& world_;
  Collective collective_;
  Shape shape_;
  std::vector<Memory> memory_;
  std::vector<std::vector<std::byte>> heap_;
  Buffer in_;
  Buffer out_;
};

}  // namespace trireme::bench
