#pragma once

#include "trireme/kernels/reduction_tree.h"
#include "trireme/server/consistency/policy.h"

namespace trireme::server {

/// Consistency::Mode::kSynchronous: the pushes of a step are summed in the order of ReductionTree,
/// divided once and applied as one update. With backup workers (Chen et al. 2016) a step is
/// complete without the slowest workers; what they push for a step that is over is dropped.
class Synchronous final : public ConsistencyPolicy {
 public:
  explicit Synchronous(ServerState& state);

  void check_push(const Message& push) const override;
  void reserve(const Message&) override {}
  Applied apply(Request push) override;
  std::vector<Request> advance() override;
  bool may_read(const Message& request) const override;
  std::int64_t first_clock(std::uint32_t) const override { return state().version; }
  VersionVector progress() const override { return {.version = state().version, .workers = {}}; }
  /// A push that belongs to the next step waits in pending_pushes.
  bool is_beyond_frontier(const Message&) const override { return false; }
  std::string failure_after(std::uint32_t worker) const override;
  std::string waiting_for() const override;

 private:
  bool has_backup_workers() const { return consistency().backup_workers > 0; }
  int needed_pushes() const { return consistency().workers - consistency().backup_workers; }
  void check_divisor(const Message& push) const;
  void update();
  std::vector<Request> take_pending();

  ReductionTree tree_;  // of all workers' virtual workers
};

}  // namespace trireme::server
