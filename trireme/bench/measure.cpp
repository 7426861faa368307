#include "trireme/bench/measure.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "trireme/bench/turns.h"
#include "trireme/comm/nccl/nccl.h"

namespace trireme::bench {

namespace {

/// Two blocks of the process's own memory, or of its device if the data is there; one is copied to
/// the other.
class Copy {
 public:
  /// Collective.
  Copy(Communicator& world, std::int64_t bytes, Place place) : bytes_(bytes) {
    if (place == Place::kDevice) {
      for (Memory& block : device_) block = world.allocate(bytes_of(), Device::kCuda);
      return;
    }
    from_.assign(bytes_of(), 1);
    to_.assign(bytes_of(), 2);
  }

  void call() {
    if (from_.empty()) {
      return nccl::copy({device_[0].data(), bytes_, DType::kU8, Device::kCuda},
                        {device_[1].data(), bytes_, DType::kU8, Device::kCuda});
    }
    std::memcpy(to_.data(), from_.data(), from_.size());
    asm volatile("" ::"r"(to_.data()) : "memory");
  }

 private:
  std::size_t bytes_of() const { return static_cast<std::size_t>(bytes_); }

  std::int64_t bytes_;
  std::vector<char> from_;
  std::vector<char> to_;
  std::array<Memory, 2> device_;
};

Timing timing_of(const Contender& contender) {
  const auto& seconds = contender.seconds;
  return {.name = contender.name,
          .seconds = contender.median(),
          .lower_quartile = seconds[seconds.size() / 4],
          .upper_quartile = seconds[seconds.size() * 3 / 4],
          .batches = static_cast<int>(seconds.size()),
          .calls = contender.calls};
}

}  // namespace

Row measure(Communicator& world, const Plan& plan, std::int64_t bytes,
            std::span<PeerRanks* const> peers) {
  Row row{.shape = shape_of(plan.collective, bytes, plan.dtype, world.size())};
  std::vector<Contender> contenders;
  std::vector<std::unique_ptr<Exercise>> exercises;
  for (const Place place : plan.places) {
    auto& exercise = *exercises.emplace_back(
        std::make_unique<Exercise>(world, plan.collective, row.shape, plan.dtype, place));
    contenders.push_back({std::string(name_of(place)), [&](int calls) {
                            return time_calls(world, calls, [&] { exercise.call(); });
                          }});
  }
  Copy copy(world, row.shape.bytes, plan.places.front());
  contenders.push_back(
      {"copy", [&](int calls) { return time_calls(world, calls, [&] { copy.call(); }); }});
  for (PeerRanks* peer : peers) {
    contenders.push_back(
        {std::string(name_of(peer->kind())), [&, peer](int calls) {
           // The other ranks sleep in slowest() until rank 0 has its answer.
           const bool asks = world.rank() == 0;
           return slowest(world,
                          asks ? peer->batch({plan.collective, row.shape, plan.dtype}, calls) : 0);
         }});
  }
  for (auto& exercise : exercises) row.wrong += exercise->count_wrong();
  take_turns(world, contenders, plan.seconds);
  for (auto& exercise : exercises) row.wrong += exercise->count_wrong();
  for (const Contender& contender : contenders) row.timings.push_back(timing_of(contender));
  row.algorithm_bandwidth = static_cast<double>(row.shape.bytes) / row.ours().seconds / 1e9;
  row.bus_bandwidth = row.algorithm_bandwidth * bus_factor(plan.collective, world.size());
  return row;
}

std::int64_t memory_of(const Plan& plan, std::int64_t bytes) {
  const bool in_place =
      plan.collective != Collective::kAllToAll && plan.collective != Collective::kSend;
  const auto blocks = static_cast<std::int64_t>(plan.places.size()) * (in_place ? 1 : 2) + 2;
  return blocks * bytes;
}

}  // namespace trireme::bench
