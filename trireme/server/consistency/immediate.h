#pragma once

#include "trireme/server/consistency/policy.h"

namespace trireme::server {

/// What bounded staleness and asynchronous training share: a push is applied when it arrives, as
/// the mean over the samples of its worker.
class Immediate : public ConsistencyPolicy {
 public:
  using ConsistencyPolicy::ConsistencyPolicy;

  void check_push(const Message& push) const override;
  void reserve(const Message& push) override;
  Applied apply(Request push) override;
  std::vector<Request> advance() override { return {}; }
  std::int64_t first_clock(std::uint32_t worker) const override;
  VersionVector progress() const override;
  bool is_beyond_frontier(const Message& push) const override;
  std::string failure_after(std::uint32_t) const override { return ""; }
  std::string waiting_for() const override;
};

}  // namespace trireme::server
