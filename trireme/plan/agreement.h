#pragma once

#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"

namespace trireme::plan {

/// Throws the same UsageError on every rank of `world` if a rank runs another version of trireme or
/// has another configuration than rank 0; it names the keys and both values. Keys that may differ
/// between hosts (ConfigKey::may_differ) are not compared. Collective.
void require_same_configuration(const Config& config, Communicator& world);

}  // namespace trireme::plan
