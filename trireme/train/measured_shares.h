#pragma once

#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"

namespace trireme {

/// `config`, with its shares found if it asks for that: how fast each rank computes what an even
/// part of the virtual workers is, beside the fastest, which has 1. All ranks compute at the same
/// time, each by itself, for about a second. Collective; the same on every rank. Nothing is
/// written, nothing learned that stays. Throws as train() does.
Config with_measured_shares(Config config, Communicator& world);

}  // namespace trireme
