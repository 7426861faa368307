#include "trireme/train/components.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "trireme/model/make_model.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/parallel/local_steps.h"
#include "trireme/parallel/make_strategy.h"
#include "trireme/parallel/parameter_server.h"
#include "trireme/server/embedded/embedded.h"
#include "trireme/server/zmq/connect_servers.h"
#include "trireme/train/train.h"

namespace trireme {

namespace {

LocalStepsOptions local_steps_options_of(const Config::Communication& communication,
                                         const StrategyOptions& world) {
  const bool diloco = communication.hybrid == "diloco";
  return {.world = world,
          .group_size = static_cast<int>(communication.group_size),
          .steps = static_cast<int>(communication.local_steps),
          .outer_lr = diloco ? communication.outer_lr : 1,
          .outer_momentum = diloco ? communication.outer_momentum : 0,
          .fragments = static_cast<int>(communication.fragments),
          .delay = static_cast<int>(communication.delay),
          .mix = communication.mix};
}

OptimizerOptions optimizer_options_of(const Config::Optimizer& optimizer) {
  OptimizerOptions options{.name = optimizer.name,
                           .lr = optimizer.lr,
                           .weight_decay = optimizer.weight_decay,
                           .momentum = optimizer.momentum,
                           .dampening = optimizer.dampening,
                           .nesterov = optimizer.nesterov,
                           .beta1 = optimizer.betas[0],
                           .beta2 = optimizer.betas[1],
                           .alpha = optimizer.alpha,
                           .centered = optimizer.centered,
                           .lr_decay = optimizer.lr_decay,
                           .initial_accumulator = optimizer.initial_accumulator,
                           .beta = optimizer.beta,
                           .l1 = optimizer.l1,
                           .l2 = optimizer.l2};
  if (optimizer.eps > 0) options.eps = optimizer.eps;
  return options;
}

server::Consistency consistency_of(const Config::Communication& communication) {
  using Mode = server::Consistency::Mode;
  if (communication.mode == "asynchronous") return {.mode = Mode::kAsynchronous};
  if (communication.mode == "synchronous") return {.mode = Mode::kSynchronous};
  if (communication.hybrid == "backup_workers") {
    return {.mode = Mode::kSynchronous,
            .backup_workers = static_cast<int>(communication.backup_workers)};
  }
  return {.mode = Mode::kBounded, .staleness = static_cast<int>(communication.staleness)};
}

std::unique_ptr<server::Client> client_of(const Config::Communication& communication,
                                          Communicator& workers) {
  const auto timeout =
      std::chrono::milliseconds(static_cast<std::int64_t>(1000 * communication.timeout));
  if (!communication.servers.empty()) {
    return server::connect_servers({.addresses = communication.servers,
                                    .replicas = static_cast<int>(communication.replicas),
                                    .worker = workers.rank(),
                                    .timeout = timeout,
                                    .secret_key = communication.secret_key,
                                    .server_keys = communication.server_keys});
  }
  return server::embedded(
      workers, {.shards = static_cast<int>(communication.server_shards), .timeout = timeout});
}

StrategyOptions strategy_options_of(const Config& config, int ranks) {
  const Config::Communication& communication = config.communication;
  return {.virtual_workers = virtual_workers_of(config, ranks),
          .shares = config.training.shares,
          .bucket_bytes = config.parallelism.bucket_bytes,
          .compression = {.codec = communication.compression,
                          .ratio = communication.compression_ratio,
                          .rank = static_cast<int>(communication.compression_rank),
                          .seed = static_cast<std::uint64_t>(config.training.seed)}};
}

}  // namespace

int virtual_workers_of(const Config& config, int ranks) {
  const std::int64_t asked = config.training.virtual_workers;
  return asked == 0 ? ranks : static_cast<int>(asked);
}

int prefetch_steps_of(const Config& config, int ranks) {
  constexpr int kSteps = 64;
  if (config.data.prefetch_steps >= 0) return static_cast<int>(config.data.prefetch_steps);
  const auto busy =
      static_cast<unsigned>(ranks * std::max<std::int64_t>(1, config.training.threads));
  return std::thread::hardware_concurrency() > busy ? kSteps : 0;
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
  return make_model(options, train.input_shape(), train.target());
}

bool goes_through_servers(const Config& config) {
  const Config::Communication& communication = config.communication;
  return config.parallelism.strategy == "parameter_server" || communication.mode == "asynchronous" ||
         (communication.mode == "hybrid" && (communication.hybrid == "bounded_staleness" ||
                                             communication.hybrid == "backup_workers"));
}

bool ranks_go_alone(const Config& config) {
  return goes_through_servers(config) && config.communication.mode != "synchronous";
}

ReductionTree tree_of(const Config& config, int ranks) {
  return tree_of(strategy_options_of(config, ranks), ranks);
}

std::unique_ptr<Strategy> strategy_of(const Config& config, Communicator& world) {
  const Config::Communication& communication = config.communication;
  const StrategyOptions options = strategy_options_of(config, world.size());
  if (goes_through_servers(config)) {
    return parameter_server(
        world, [communication](Communicator& workers) { return client_of(communication, workers); },
        {.world = options,
         .optimizer = optimizer_options_of(config.optimizer),
         .clip_value = config.training.clip_value,
         .consistency = consistency_of(communication),
         .group_size = static_cast<int>(communication.group_size)});
  }
  if (communication.mode == "hybrid") {
    return local_steps(world, local_steps_options_of(communication, options));
  }
  return make_strategy(config.parallelism.strategy, world, options);
}

std::unique_ptr<Optimizer> optimizer_of(const Config& config, std::span<Shard> shards) {
  auto result = make_optimizer(optimizer_options_of(config.optimizer), shards);
  result->set_gradient_clip_value(config.training.clip_value);
  return result;
}

std::unique_ptr<Schedule> schedule_of(const Config& config, std::int64_t total_steps) {
  const Config::LrScheduler& schedule = config.lr_scheduler;
  return make_schedule({.name = schedule.name,
                        .lr = config.optimizer.lr,
                        .warmup_steps = schedule.warmup_steps,
                        .total_steps = total_steps,
                        .step_size = schedule.step_size,
                        .gamma = schedule.gamma,
                        .min_lr_ratio = schedule.min_lr_ratio,
                        .max_lr = schedule.max_lr});
}

}  // namespace trireme
