#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "trireme/server/consistency/policy.h"
#include "trireme/server/membership.h"
#include "trireme/server/request.h"
#include "trireme/server/server_state.h"

namespace trireme::server {

/// The consistent snapshot that a program takes of all servers of a model. It pauses each server,
/// takes the least common frontier of their version vectors (frontier_of()), lets each server
/// advance to it, reads, and lets them resume. In between, pushes beyond the frontier wait here; a
/// program that dies delays them by five seconds. One thread.
class Snapshot {
 public:
  using Time = Membership::Time;

  /// What is left to do when a snapshot ends.
  struct Rest {
    std::optional<Request> waiter;  ///< the kAdvance that was not reached
    std::vector<Request> pushes;    ///< handle them again
  };

  /// `state.frontier` is set while a snapshot is taken. `state` outlives this.
  explicit Snapshot(ServerState& state) : state_(state) {}

  bool is_active() const { return state_.frontier.has_value(); }
  bool is_owned_by(const Message& message) const {
    return is_active() && incarnation_ == message.incarnation;
  }
  std::uint64_t incarnation() const { return incarnation_; }

  /// Throws CommError if another program takes a snapshot.
  void check_owner(const Message& message) const;
  /// Throws CommError unless a snapshot is being taken.
  void check_active() const;
  /// Throws UsageError unless `message` names a frontier as long as `progress`.
  void check_frontier(const Message& message, const VersionVector& progress) const;

  /// Throws CommError if snapshots have delayed training for too long lately: in the long run they
  /// may take half of the time, at most ten minutes at once.
  void check_ration(Time now) const;

  /// Begins a snapshot, or begins again: pushes that wait stay.
  void pause(std::uint64_t incarnation, VersionVector progress, Time now);
  /// `waiter` is replied to once its frontier is reached.
  void advance(Request waiter);
  Rest resume(Time now);

  /// Postpones the end by itself: the program is alive.
  void extend(Time now);
  bool is_expired(Time now) const { return is_active() && now > until_; }

  /// Keeps a push that is beyond the frontier, in place of an earlier one of the same worker.
  void hold(Request push);
  void remove(std::uint32_t worker);
  std::vector<Request> take_pushes();

  /// Returns the waiter if the progress of `policy` has reached its frontier.
  std::optional<Request> take_waiter(const ConsistencyPolicy& policy);

 private:
  ServerState& state_;
  std::uint64_t incarnation_ = 0;  // of the program
  Time until_{};
  Time began_{};
  Time next_{};  // when the next one may begin, unless a part of kBurst is left
  std::optional<Request> waiter_;
  std::vector<Request> pushes_;
};

}  // namespace trireme::server
