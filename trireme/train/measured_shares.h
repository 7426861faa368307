#pragma once

#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"
#include "trireme/plan/run_plan.h"

namespace trireme {

/// If `plan`, the plan of `config`, asks for measured shares, sets the shares of both to how fast
/// each rank computes an even part of the virtual workers, divided by the speed of the fastest
/// rank. All ranks compute at the same time, each by itself, for about a second. Collective, with
/// the same result on every rank. Writes no file and keeps no model. Throws as train() does.
void measure_shares(Config& config, plan::RunPlan& plan, Communicator& world);

}  // namespace trireme
