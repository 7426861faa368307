#pragma once

#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"

namespace trireme {

/// Returns `config`; if it asks for measured shares, with training.shares set to how fast each rank
/// computes an even part of the virtual workers, divided by the speed of the fastest rank. All
/// ranks compute at the same time, each by itself, for about a second. Collective, with the same
/// result on every rank. Writes no file and keeps no model. Throws as train() does.
Config with_measured_shares(Config config, Communicator& world);

}  // namespace trireme
