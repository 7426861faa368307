#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/comm/shm/collective.h"
#include "trireme/comm/shm/mailbox.h"
#include "trireme/comm/shm/peers.h"

namespace trireme::shm {

/// How often a rank polls before it sleeps.
struct SpinPolicy {
  int spins;   ///< polls that keep the core
  int yields;  ///< polls that offer it to others
};

/// A communicator over a segment. It keeps the order of its operations, advances them while a call
/// waits, and ends in an error if a call cannot succeed.
class Group final : public Communicator {
 public:
  /// `own_area` is true if the group area lies in this rank's arena, so that this rank frees it.
  Group(std::shared_ptr<Member> member, std::uint64_t area_offset, int rank,
        std::vector<int> world_ranks, bool own_area);
  ~Group() override;

  std::string description() const override { return "shared memory"; }
  void check() override;
  void abort(std::exception_ptr error) override;

 private:
  class CollectiveWork;
  class TransferWork;

  Work start(const Operation& operation) override;
  Memory do_allocate(std::size_t bytes, SourceLocation where) override;
  std::unique_ptr<Communicator> do_split(int color, int key, SourceLocation where) override;
  void do_progress() override;
  Traffic own_traffic() const override { return traffic_; }

  // Returns the values of all ranks, in rank order.
  template <class T>
  std::vector<T> exchange(OpKind kind, T value, SourceLocation where);

  bool advance();
  bool advance_collectives();
  bool may_post(std::uint64_t number);
  template <class Done>
  void poll(Done done);
  template <class Done>
  void wait_until(std::chrono::milliseconds timeout, Done done);
  std::int32_t awaited() const;
  void check_peers();
  const Operation* operation_awaiting(int peer) const;
  void check_deadline(std::chrono::steady_clock::duration waited,
                      std::chrono::milliseconds timeout);
  template <class Throw>
  void end_because(Throw raise);
  void throw_if_over();

  Peers peers_;
  std::shared_ptr<Member> member_;
  std::uint64_t area_offset_;
  bool own_area_;
  SpinPolicy spin_policy_;

  std::deque<Collective> pending_;           // operations that are not done, in order
  std::uint64_t started_ = 0;                // number of the last operation started
  std::uint64_t posted_ = 0;                 // number of the last one published
  std::uint64_t finished_ = 0;               // number of the last one done
  std::uint64_t phases_ = 0;                 // phases that this rank has completed
  std::array<std::uint64_t, kRing> ends_{};  // phases at the end of the last operations
  std::uint64_t cleared_ = 0;                // phases that every rank has completed
  int slowest_ = 0;                          // the rank whose progress the next publication needs
  Traffic traffic_;
  Scratch scratch_;
  Mailbox mailbox_;
  std::exception_ptr error_;  // once this communicator is over
  std::mutex abort_mutex_;
  std::exception_ptr abort_error_;  // set by abort(), possibly in another thread
  std::atomic<bool> aborted_ = false;
  int blamed_;
};

}  // namespace trireme::shm
