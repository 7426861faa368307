#pragma once

#include "trireme/server/consistency/immediate.h"

namespace trireme::server {

/// Consistency::Mode::kAsynchronous: no read waits for other workers (Dean et al. 2012).
class Asynchronous final : public Immediate {
 public:
  using Immediate::Immediate;

  bool may_read(const Message&) const override { return state().store->is_complete(); }
};

}  // namespace trireme::server
