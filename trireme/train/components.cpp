#include "trireme/train/components.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <variant>

#include "trireme/model/make_model.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/parallel/host_shared.h"
#include "trireme/parallel/local_steps.h"
#include "trireme/parallel/parameter_server.h"
#include "trireme/parallel/replicated.h"
#include "trireme/plan/resolve.h"
#include "trireme/server/embedded/embedded.h"
#include "trireme/server/zmq/connect_servers.h"
#include "trireme/tensor/prepare_groups.h"

namespace trireme {

namespace {

constexpr int kPrefetchSteps = 64;

server::Consistency consistency_of(const plan::ParameterServer::Consistency& consistency) {
  using PS = plan::ParameterServer;
  using Mode = server::Consistency::Mode;
  struct ToServer {
    server::Consistency operator()(PS::Synchronous) const { return {.mode = Mode::kSynchronous}; }
    server::Consistency operator()(PS::BackupWorkers backup) const {
      return {.mode = Mode::kSynchronous, .backup_workers = backup.count};
    }
    server::Consistency operator()(PS::BoundedStaleness bound) const {
      return {.mode = Mode::kBounded, .staleness = bound.steps};
    }
    server::Consistency operator()(PS::Asynchronous) const { return {.mode = Mode::kAsynchronous}; }
  };
  return std::visit(ToServer(), consistency);
}

std::unique_ptr<server::Client> make_client(const plan::ParameterServer& servers,
                                            std::chrono::milliseconds timeout,
                                            Communicator& workers) {
  if (servers.addresses.empty()) {
    return server::embedded(workers, {.shards = servers.server_shards, .timeout = timeout});
  }
  return server::connect_servers({.addresses = servers.addresses,
                                  .replicas = servers.replicas,
                                  .worker = workers.rank(),
                                  .timeout = timeout,
                                  .secret_key = servers.secret_key,
                                  .server_keys = servers.server_keys});
}

StrategyOptions strategy_options_of(const plan::RunPlan& plan) {
  return {.virtual_workers = plan.batch.virtual_workers,
          .shares = plan.batch.shares,
          .bucket_bytes = plan.bucket_bytes,
          .compression = plan.compression};
}

// Makes the strategy of each way of training.
struct MakeStrategy {
  const plan::RunPlan& plan;
  Communicator& world;

  std::unique_ptr<Strategy> operator()(const plan::Replicated&) const {
    return replicated(world, strategy_options_of(plan));
  }
  std::unique_ptr<Strategy> operator()(const plan::HostShared&) const {
    return host_shared(world, strategy_options_of(plan));
  }
  std::unique_ptr<Strategy> operator()(const plan::LocalSteps& local) const {
    return local_steps(world, {.world = strategy_options_of(plan),
                               .group_size = local.group_size,
                               .steps = local.steps,
                               .outer_lr = local.outer_lr,
                               .outer_momentum = local.outer_momentum,
                               .fragments = local.fragments,
                               .delay = local.delay,
                               .mix = local.mix});
  }
  std::unique_ptr<Strategy> operator()(const plan::ParameterServer& servers) const {
    const auto timeout = plan.transport.timeout;
    return parameter_server(world,
                            [servers, timeout](Communicator& workers) {
                              return make_client(servers, timeout, workers);
                            },
                            {.world = strategy_options_of(plan),
                             .optimizer = plan.optimizer,
                             .clip_value = plan.clip_value,
                             .consistency = consistency_of(servers.consistency),
                             .group_size = servers.group_size});
  }
};

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
  return tree_of(strategy_options_of(plan::resolve_derived(config, ranks)), ranks);
}

std::unique_ptr<Strategy> make_strategy(const plan::RunPlan& plan, Communicator& world) {
  return std::visit(MakeStrategy{plan, world}, plan.data_parallel);
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
