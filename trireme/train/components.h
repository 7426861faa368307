#pragma once

#include <memory>
#include <span>
#include <string>

#include "trireme/base/buffer.h"
#include "trireme/comm/communicator.h"
#include "trireme/data/dataset.h"
#include "trireme/model/model.h"
#include "trireme/optim/optimizer.h"
#include "trireme/optim/schedule.h"
#include "trireme/parallel/strategy.h"
#include "trireme/train/config.h"

namespace trireme {

/// What a configuration asks for, in the words of the parts that do it.

int virtual_workers_of(const Config& config, int ranks);
/// Which of them each rank has.
ReductionTree tree_of(const Config& config, int ranks);
/// A thread that reads ahead takes its core from training where no core is free.
int prefetch_steps_of(const Config& config, int ranks);
DType dtype_of_config(const Config& config);
bool classifies(const Config& config);

std::unique_ptr<Model> model_of(const Config& config, const Dataset& train);
/// True if parameters and optimizer state live on servers.
bool goes_through_servers(const Config& config);

std::unique_ptr<Strategy> strategy_of(const Config& config, Communicator& world);
std::unique_ptr<Optimizer> optimizer_of(const Config& config, std::span<Shard> shards);
std::unique_ptr<Schedule> schedule_of(const Config& config, std::int64_t total_steps);

}  // namespace trireme
