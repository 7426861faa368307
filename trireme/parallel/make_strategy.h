#pragma once

#include <memory>

#include "trireme/comm/communicator.h"
#include "trireme/kernels/reduction_tree.h"
#include "trireme/parallel/strategy.h"
#include "trireme/plan/run_plan.h"

namespace trireme {

/// Makes the strategy of a plan, which must be resolved for the ranks of `world`. Collective where
/// the strategy connects to servers.
std::unique_ptr<Strategy> make_strategy(const plan::RunPlan& plan, Communicator& world);

/// Returns which virtual workers each rank of a plan has.
ReductionTree tree_of(const plan::RunPlan& plan);

}  // namespace trireme
