#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "trireme/comm/shm/layout.h"
#include "trireme/comm/shm/member.h"

namespace trireme::shm {

/// The ranks of one communicator, as one of them sees them: what they have published, how to wake
/// them, and whether they have left or are lost.
class Peers {
 public:
  /// `world_ranks[r]` is the rank of rank r in the World; the group area lies at `area_offset`.
  Peers(std::shared_ptr<Member> member, std::uint64_t area_offset, int rank,
        std::vector<int> world_ranks);

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(world_ranks_.size()); }
  const GroupArea& area() const { return area_; }
  Member& member() const { return *member_; }
  const std::vector<int>& world_ranks() const { return world_ranks_; }

  const Descriptor& descriptor(int rank, std::uint64_t number) const {
    return area_.slot(rank).ring[number % kRing];
  }
  bool has_posted(int rank, std::uint64_t number) const {
    return descriptor(rank, number).number.load() == number;
  }
  std::uint64_t progress_of(int rank) const { return area_.slot(rank).progress.load(); }

  /// Publishes what the caller has written into descriptor `number` of its own ring.
  void post(std::uint64_t number);
  void publish_progress(std::uint64_t progress);
  /// Wakes `rank` if it awaits this rank.
  void nudge(int rank);

  /// Returns how often this rank's doorbell has been rung.
  std::uint32_t rings() const { return doorbell().load(); }

  /// Sleeps until the doorbell rings, at most 100 ms, and not at all if it has rung since `heard`.
  /// `awaited` is a rank or kAnyRank. `poll` is called once more after peers can see that this rank
  /// sleeps; if it returns true, the rank stays awake.
  template <class Poll>
  void sleep(std::int32_t awaited, std::uint32_t heard, Poll poll);

  /// The loss of any rank ends the communicator; a rank that has left ends only calls that need it.
  bool is_lost(int rank) const;
  bool any_lost() const;
  bool has_left(int rank) const;
  [[noreturn]] void throw_lost() const;
  /// `needed_by`: the operation that waits for it, if there is one.
  [[noreturn]] void throw_left(int rank, const Operation* needed_by = nullptr) const;

  /// Throws "rank 2 did not come to barrier() within 5 s; its last call was send(..) (operation
  /// 17); its process is stopped". `number` is that of the operation, or 0 for a message.
  [[noreturn]] void time_out(int awaited, std::uint64_t number, const Operation& operation,
                             std::chrono::milliseconds waited) const;

  /// Returns a rank that has left because of an error, or -1 if there is none.
  int first_failed() const;

  /// Publishes that this rank has left because of rank `blamed`, which may be itself.
  void leave(int blamed, bool in_failure);
  /// Publishes that this rank does not use the area any more. Must be the last call.
  void go();

  std::chrono::milliseconds timeout() const { return timeout_; }

 private:
  std::atomic<std::uint32_t>& doorbell() const {
    return member_->segment().control(member_->world_rank()).doorbell;
  }
  void wake_those_awaiting();
  std::string name(int rank) const;

  std::shared_ptr<Member> member_;
  GroupArea area_;
  int rank_;
  std::vector<int> world_ranks_;
  std::chrono::milliseconds timeout_;
};

template <class Poll>
void Peers::sleep(std::int32_t awaited, std::uint32_t heard, Poll poll) {
  std::atomic<std::int32_t>& awaiting = area_.slot(rank_).awaiting;
  // This store is sequentially consistent, as publications are: either the peer sees that this rank
  // sleeps, or poll() sees what the peer has published.
  awaiting.store(awaited == kAnyRank ? kAnyRank : awaited + 1);
  if (!poll()) futex_wait(doorbell(), heard, 100);
  awaiting.store(kAwake);
}

}  // namespace trireme::shm
