#pragma once

#include "trireme/server/consistency/immediate.h"

namespace trireme::server {

/// Consistency::Mode::kBounded, stale synchronous parallel (Ho et al. 2013): a read at clock c
/// waits until the clock of every worker that may still push is at least c - staleness.
class BoundedStaleness final : public Immediate {
 public:
  using Immediate::Immediate;

  bool may_read(const Message& request) const override;
};

}  // namespace trireme::server
