#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trireme/server/request.h"
#include "trireme/server/server_state.h"

namespace trireme::server {

/// Decides when pushes are applied and when reads are replied to: one implementation for each
/// Consistency::Mode. It changes the state of its server and sends nothing; the server replies to
/// the requests that it returns.
class ConsistencyPolicy {
 public:
  struct Applied {
    std::vector<Request> complete;   ///< pushes to reply to now, with the current values
    std::optional<Request> waiting;  ///< an applied push whose reads wait until may_read()
  };

  /// `state` has a store and outlives the policy.
  explicit ConsistencyPolicy(ServerState& state) : state_(state) {}
  virtual ~ConsistencyPolicy() = default;
  ConsistencyPolicy(const ConsistencyPolicy&) = delete;
  ConsistencyPolicy& operator=(const ConsistencyPolicy&) = delete;

  /// Throws UsageError if the gradients or the divisor of `push` are not what this mode takes.
  virtual void check_push(const Message& push) const = 0;

  /// Allocates what apply() needs for `push`. Throws std::bad_alloc, and no value has changed.
  virtual void reserve(const Message& push) = 0;

  /// Applies a push, or keeps it in pending_pushes until the step is complete.
  virtual Applied apply(Request push) = 0;

  /// Must be called after a worker has finished or is gone and after the frontier has moved.
  /// Returns the pushes that are complete now.
  virtual std::vector<Request> advance() = 0;

  /// True if the values are new enough for `request`, a push or pull of a worker.
  virtual bool may_read(const Message& request) const = 0;

  /// The clock at which a new incarnation of `worker` begins.
  virtual std::int64_t first_clock(std::uint32_t worker) const = 0;

  virtual VersionVector progress() const = 0;

  /// True if a snapshot is being taken that must not contain `push`.
  virtual bool is_beyond_frontier(const Message& push) const = 0;

  /// Why training cannot continue after `worker` has left or was lost; empty: it can.
  virtual std::string failure_after(std::uint32_t worker) const = 0;

  /// The worker that the others wait for: "worker 2, which has not joined"; or empty.
  virtual std::string waiting_for() const = 0;

 protected:
  ServerState& state() { return state_; }
  const ServerState& state() const { return state_; }
  const Consistency& consistency() const { return state_.store->schema().consistency; }

 private:
  ServerState& state_;
};

/// The policy of the mode in the schema of `state.store`.
std::unique_ptr<ConsistencyPolicy> make_policy(ServerState& state);

}  // namespace trireme::server
