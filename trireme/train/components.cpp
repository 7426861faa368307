#include "trireme/train/components.h"

#include <algorithm>
#include <thread>

#include "trireme/model/make_model.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/parallel/make_strategy.h"
#include "trireme/plan/resolve.h"
#include "trireme/tensor/prepare_groups.h"

namespace trireme {

namespace {

constexpr int kPrefetchSteps = 64;

}  // namespace

int virtual_workers_of(const Config& config, int ranks) {
  const std::int64_t asked = config.training.virtual_workers;
  return asked == 0 ? ranks : static_cast<int>(asked);
}

int prefetch_steps_of(const Config& config, int ranks) {
  if (config.data.prefetch_steps >= 0) return static_cast<int>(config.data.prefetch_steps);
  const auto busy =
      static_cast<unsigned>(ranks * std::max<std::int64_t>(1, config.training.threads));
  return std::thread::hardware_concurrency() > busy ? kPrefetchSteps : 0;
}

DType dtype_of_config(const Config& config) {
  return config.training.dtype == "f64" ? DType::kF64 : DType::kF32;
}

bool classifies(const Config& config) {
  if (config.data.task != "auto") return config.data.task == "classification";
  return config.model.name == "logistic" || config.training.loss == "cross_entropy" ||
         config.training.loss == "bce_with_logits";
}

std::unique_ptr<Model> model_of(const Config& config, const Dataset& train) {
  const Config::Model& model = config.model;
  ModelOptions options{.name = model.name,
                       .loss = config.training.loss,
                       .dtype = config.training.dtype,
                       .init = model.init,
                       .seed = static_cast<std::uint64_t>(config.training.seed),
                       .activation = model.activation,
                       .dropout = model.dropout,
                       .channels = model.channels,
                       .kernel = model.kernel,
                       .batch_norm = model.batch_norm,
                       .path = model.path};
  if (!model.hidden.empty()) options.hidden = model.hidden;
  auto made = make_model(options, train.input_shape(), train.target());
  prepare_groups(made->tensors(), plan::optimizer_options(config.optimizer).groups);
  return made;
}

ReductionTree tree_of(const Config& config, int ranks) {
  return tree_of(plan::resolve_derived(config, ranks));
}

std::unique_ptr<Strategy> strategy_of(const Config& config, Communicator& world) {
  return make_strategy(plan::resolve_derived(config, world.size()), world);
}

std::unique_ptr<Optimizer> optimizer_of(const Config& config, std::span<Shard> shards) {
  auto result = make_optimizer(plan::optimizer_options(config.optimizer), shards);
  result->set_gradient_clip_value(config.training.clip_value);
  return result;
}

std::unique_ptr<Schedule> schedule_of(const Config& config, std::int64_t total_steps) {
  ScheduleOptions options = plan::schedule_options(config);
  options.total_steps = total_steps;
  return make_schedule(options);
}

}  // namespace trireme
