#pragma once

#include <memory>
#include <span>
#include <string>

#include "trireme/base/buffer.h"
#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"
#include "trireme/data/dataset.h"
#include "trireme/model/model.h"
#include "trireme/optim/optimizer.h"
#include "trireme/optim/schedule.h"
#include "trireme/parallel/strategy.h"
#include "trireme/plan/run_plan.h"

namespace trireme {

/// The parts of a run that a configuration describes.

int virtual_workers_of(const Config& config, int ranks);
/// Which virtual workers each rank has.
ReductionTree tree_of(const Config& config, int ranks);
/// A thread that reads ahead takes its core from training where no core is free.
int prefetch_steps_of(const Config& config, int ranks);
DType dtype_of_config(const Config& config);
bool classifies(const Config& config);

/// Makes the model; the groups of [optimizer] that are not trainable are frozen. Throws UsageError
/// for a group that matches no parameter.
std::unique_ptr<Model> model_of(const Config& config, const Dataset& train);
std::unique_ptr<Strategy> strategy_of(const Config& config, Communicator& world);
std::unique_ptr<Optimizer> optimizer_of(const Config& config, std::span<Shard> shards);
std::unique_ptr<Schedule> schedule_of(const Config& config, std::int64_t total_steps);

}  // namespace trireme
