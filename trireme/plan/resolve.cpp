#include "trireme/plan/resolve.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "trireme/base/error.h"
#include "trireme/config/key_use.h"

namespace trireme::plan {

namespace {

using Consistency = Config::Communication::Consistency;

// The strings of the three keys that choose a way of training are compared here and nowhere else.
bool is_hybrid(const Consistency& c) {
  return c.mode == "hybrid";
}

bool takes_local_steps(const Consistency& c) {
  return is_hybrid(c) && (c.hybrid == "local_sgd" || c.hybrid == "diloco");
}

// The three keys as a user would write them.
std::string way_of(const Config& config) {
  const Consistency& c = config.communication.consistency;
  return fmt::format(
      "communication.mode = \"{}\"{}", c.mode,
      is_hybrid(c) ? fmt::format(" and communication.hybrid = \"{}\"", c.hybrid) : "");
}

[[noreturn]] void refuse_combination(const Config& config, std::string_view why,
                                     std::string_view wanted) {
  throw UsageError(fmt::format("parallelism.strategy = \"{}\" does not go with {}: {}; use {}",
                               config.parallelism.strategy, way_of(config), why, wanted));
}

Batch batch_of(const Config::Training& training, int ranks) {
  Batch batch{.global_batch = training.global_batch,
              .virtual_workers = training.virtual_workers == 0
                                     ? ranks
                                     : static_cast<int>(training.virtual_workers),
              .shares = training.shares,
              .measure_shares = training.measure_shares};
  if (batch.virtual_workers < ranks) {
    throw UsageError(fmt::format(
        "training.virtual_workers must be at least the {} ranks, got {}; use more virtual workers "
        "or -n {}",
        ranks, batch.virtual_workers, batch.virtual_workers));
  }
  if (batch.global_batch < batch.virtual_workers) {
    throw UsageError(fmt::format(
        "training.global_batch must hold a sample for each of the {} virtual workers, got {}",
        batch.virtual_workers, batch.global_batch));
  }
  return batch;
}

void check_shares(const Batch& batch, int ranks) {
  const bool has_shares = !batch.shares.empty();
  if (!has_shares && !batch.measure_shares) return;
  if (has_shares && batch.measure_shares) {
    throw UsageError(
        "training.shares and training.measure_shares exclude each other: shares are given or "
        "measured");
  }
  if (has_shares && batch.shares.size() != static_cast<std::size_t>(ranks)) {
    throw UsageError(
        fmt::format("training.shares must have a number for each of the {} ranks, got {}: {}",
                    ranks, batch.shares.size(), batch.shares));
  }
  if (ranks > 1 && batch.virtual_workers == ranks) {
    throw UsageError(fmt::format(
        "training.virtual_workers must be more than the {} ranks, best several times as many, for "
        "{} to assign them, got {}",
        ranks, has_shares ? "training.shares" : "training.measure_shares", batch.virtual_workers));
  }
}

// Called for ways of training in which the ranks' parameters or state lie elsewhere.
void refuse_shard(const Config& config, std::string_view why) {
  if (config.parallelism.shard == 0) return;
  throw UsageError(
      fmt::format("parallelism.shard = {} does not go with {}: {}; use parallelism.shard = 0, or "
                  "communication.mode = \"synchronous\"",
                  config.parallelism.shard, way_of(config), why));
}

LocalSteps local_steps_of(const Config& config) {
  const Consistency& c = config.communication.consistency;
  if (config.parallelism.strategy == "parameter_server") {
    refuse_combination(config, "groups that take local steps hold their own parameters",
                       "communication.hybrid = \"bounded_staleness\" or \"backup_workers\", or "
                       "parallelism.strategy = \"replicated\"");
  }
  if (config.parallelism.strategy != "replicated") {
    refuse_combination(config, "groups that take local steps cannot share their parameters",
                       "parallelism.strategy = \"replicated\"");
  }
  refuse_shard(config, "ranks that take local steps hold parameters of their own");
  if (c.fragments > c.local_steps) {
    throw UsageError(
        fmt::format("communication.fragments must be at most the {} communication.local_steps, "
                    "got {}",
                    c.local_steps, c.fragments));
  }
  if (c.delay >= c.local_steps) {
    throw UsageError(fmt::format(
        "communication.delay must be less than the {} communication.local_steps, got {}",
        c.local_steps, c.delay));
  }
  const bool has_outer_optimizer = c.hybrid == "diloco";
  return {.group_size = static_cast<int>(c.group_size),
          .steps = static_cast<int>(c.local_steps),
          .outer_lr = has_outer_optimizer ? c.outer_lr : 1,
          .outer_momentum = has_outer_optimizer ? c.outer_momentum : 0,
          .fragments = static_cast<int>(c.fragments),
          .delay = static_cast<int>(c.delay),
          .mix = c.mix};
}

ParameterServer::Consistency consistency_of(const Consistency& c) {
  if (c.mode == "synchronous") return ParameterServer::Synchronous{};
  if (c.mode == "asynchronous") return ParameterServer::Asynchronous{};
  if (c.hybrid == "backup_workers") {
    return ParameterServer::BackupWorkers{static_cast<int>(c.backup_workers)};
  }
  return ParameterServer::BoundedStaleness{static_cast<int>(c.staleness)};
}

// Which ranks share memory is not known yet: the strategy checks the groups of hosts.
void check_backup_workers(const ParameterServer& servers, int ranks) {
  const auto* backup = std::get_if<ParameterServer::BackupWorkers>(&servers.consistency);
  if (backup == nullptr) return;
  const int group = servers.group_size;
  const int workers = group < 1 ? ranks : (ranks + group - 1) / group;
  if (backup->count < workers) return;
  throw UsageError(fmt::format(
      "communication.backup_workers must be less than the {} {}, got {}: the servers wait for at "
      "least one",
      workers, group > 1 ? "groups" : "ranks", backup->count));
}

ParameterServer parameter_server_of(const Config& config, int ranks) {
  const Config::Communication::Servers& s = config.communication.servers;
  if (config.parallelism.strategy == "host_shared") {
    refuse_combination(config, "the parameters are on servers",
                       "communication.mode = \"synchronous\", or parallelism.strategy = "
                       "\"parameter_server\"");
  }
  // With strategy "parameter_server" nothing uses the key.
  if (config.parallelism.strategy == "replicated") {
    refuse_shard(config, "the optimizer's state is on servers");
  }
  if (s.replicas > 0 && s.servers.empty()) {
    throw UsageError(
        "communication.replicas = 1 needs servers that are programs of their own "
        "(communication.servers, `trireme serve`): servers in rank 0 end with it");
  }
  ParameterServer servers{
      .consistency = consistency_of(config.communication.consistency),
      .group_size = static_cast<int>(config.communication.consistency.group_size),
      .server_shards = static_cast<int>(s.server_shards),
      .addresses = s.servers,
      .replicas = static_cast<int>(s.replicas),
      .secret_key = s.secret_key,
      .server_keys = s.server_keys};
  const bool is_synchronous =
      std::holds_alternative<ParameterServer::Synchronous>(servers.consistency);
  // A value that is not used: resolve() refuses it if the user has set it.
  if (is_synchronous) servers.group_size = 1;
  check_backup_workers(servers, ranks);
  return servers;
}

DataParallel data_parallel_of(const Config& config, int ranks) {
  const Consistency& c = config.communication.consistency;
  if (takes_local_steps(c)) return local_steps_of(config);
  if (config.parallelism.strategy == "parameter_server" || c.mode != "synchronous") {
    return parameter_server_of(config, ranks);
  }
  if (config.parallelism.strategy == "host_shared") return HostShared();
  if (config.parallelism.shard == 0) return Replicated();
  return Sharded{.stage = static_cast<int>(config.parallelism.shard),
                 .within_host = config.parallelism.shard_within == "host",
                 .whole_parameters = needs_whole_parameters(config.optimizer.name)};
}

CompressionOptions compression_of(const Config& config) {
  const Config::Communication::Compression& c = config.communication.compression;
  return {.codec = c.compression,
          .ratio = c.compression_ratio,
          .rank = static_cast<int>(c.compression_rank),
          .seed = static_cast<std::uint64_t>(config.training.seed)};
}

void check_compression(const RunPlan& plan) {
  if (plan.compression.codec == "none") return;
  const auto refuse = [&](std::string_view why) {
    throw UsageError(
        fmt::format("communication.compression = \"{}\" {}; use "
                    "communication.compression = \"none\"",
                    plan.compression.codec, why));
  };
  if (std::holds_alternative<HostShared>(plan.data_parallel)) {
    refuse(
        "needs gradients that are sent, and with parallelism.strategy = \"host_shared\" they are "
        "read in shared memory");
  }
  if (std::holds_alternative<Sharded>(plan.data_parallel)) {
    refuse(
        "needs gradients that are all-reduced, and with parallelism.shard each rank receives a "
        "part "
        "of their sum");
  }
  if (std::holds_alternative<ParameterServer>(plan.data_parallel) && !plan.is_asynchronous()) {
    refuse(
        "needs gradients that are averages, and with parallelism.strategy = \"parameter_server\" "
        "and communication.mode = \"synchronous\" the servers sum virtual workers");
  }
}

void check_optimizer(const RunPlan& plan) {
  const bool is_cut = std::holds_alternative<HostShared>(plan.data_parallel) && plan.mesh.data > 1;
  if (!is_cut || !needs_whole_parameters(plan.optimizer.name)) return;
  throw UsageError(fmt::format(
      "optimizer.name = \"{}\" does not go with parallelism.strategy = \"host_shared\": it "
      "updates whole parameters, and each of the {} ranks updates pieces of them; use "
      "parallelism.strategy = \"replicated\" or optimizer.name = \"adamw\"",
      plan.optimizer.name, plan.mesh.data));
}

void check_rounding(const RunPlan& plan) {
  if (!plan.precision.stochastic_rounding) return;
  if (!std::holds_alternative<ParameterServer>(plan.data_parallel)) return;
  throw UsageError(
      "training.stochastic_rounding needs parameters that ranks update, and parallelism.strategy = "
      "\"parameter_server\" leaves them to servers; use \"replicated\" or \"host_shared\"");
}

Transport transport_of(const Config::Communication::Transport& t) {
  return {.backend = t.backend,
          .reproducible = t.reproducible,
          .interface_address = t.interface,
          .timeout = std::chrono::milliseconds(static_cast<std::int64_t>(1000 * t.timeout)),
          .heartbeat_timeout =
              std::chrono::milliseconds(static_cast<std::int64_t>(1000 * t.heartbeat_timeout))};
}

ParameterGroup group_of(const Config::Optimizer::Group& c) {
  ParameterGroup group{.match = c.match,
                       .kind = c.kind,
                       .rule = c.rule,
                       .lr_factor = c.lr_factor,
                       .weight_decay = c.weight_decay,
                       .trainable = c.trainable};
  if (!c.betas.empty()) group.betas = {c.betas[0], c.betas[1]};
  return group;
}

OptimizerOptions optimizer_options(const Config::Optimizer& c) {
  if (c.nesterov && c.momentum == 0) {
    throw UsageError("optimizer.nesterov needs optimizer.momentum above 0, got 0");
  }
  OptimizerOptions options{.name = c.name,
                           .lr = c.lr,
                           .weight_decay = c.weight_decay,
                           .momentum = c.momentum,
                           .dampening = c.dampening,
                           .nesterov = c.nesterov,
                           .beta1 = c.betas[0],
                           .beta2 = c.betas[1],
                           .alpha = c.alpha,
                           .centered = c.centered,
                           .lr_decay = c.lr_decay,
                           .initial_accumulator = c.initial_accumulator,
                           .beta = c.beta,
                           .l1 = c.l1,
                           .l2 = c.l2,
                           .newton_schulz_steps = c.newton_schulz_steps,
                           .adamw_lr_factor = c.adamw_lr_factor};
  if (c.eps > 0) options.eps = c.eps;
  if (c.name == "muon" && c.momentum == 0) options.momentum.reset();
  for (const Config::Optimizer::Group& group : c.groups) options.groups.push_back(group_of(group));
  // Values that are not used: resolve() refuses them if the user has set them.
  return without_other_options(std::move(options));
}

Recompute recompute_of(const std::string& name) {
  if (name == "none") return Recompute::kNone;
  return name == "full" ? Recompute::kFull : Recompute::kSelective;
}

// But total_steps.
ScheduleOptions schedule_options(const Config& config) {
  const Config::LrScheduler& c = config.lr_scheduler;
  return {.name = c.name,
          .lr = config.optimizer.lr,
          .warmup_steps = c.warmup_steps,
          .step_size = c.step_size,
          .gamma = c.gamma,
          .min_lr_ratio = c.min_lr_ratio,
          .max_lr = c.max_lr};
}

Precision precision_of(const Config::Training& c) {
  const DType all = c.precision == "f64" ? DType::kF64 : DType::kF32;
  Precision precision{.storage = all, .compute = all, .reduction = all, .optimizer_state = all};
  if (c.precision == "bf16") {
    precision.compute = DType::kBF16;
    precision.stochastic_rounding = c.stochastic_rounding;
  }
  if (c.precision == "f16") {
    precision.compute = DType::kF16;
    precision.loss_scale = c.loss_scale;
    precision.loss_scale_growth_steps = c.loss_scale_growth_steps;
  }
  return precision;
}

}  // namespace

RunPlan resolve_derived(const Config& config, int ranks) {
  check_values(config);
  RunPlan plan{.mesh = {.data = ranks},
               .data_parallel = data_parallel_of(config, ranks),
               .compression = compression_of(config),
               .bucket_bytes = config.parallelism.bucket_bytes,
               .batch = batch_of(config.training, ranks),
               .transport = transport_of(config.communication.transport),
               .precision = precision_of(config.training),
               .recompute = recompute_of(config.parallelism.recompute),
               .optimizer = optimizer_options(config.optimizer),
               .clip_value = config.training.clip_value,
               .schedule = schedule_options(config)};
  check_shares(plan.batch, ranks);
  check_compression(plan);
  check_optimizer(plan);
  check_rounding(plan);
  return plan;
}

RunPlan resolve(const Config& config, int ranks) {
  RunPlan plan = resolve_derived(config, ranks);
  refuse_unused_keys(config);
  return plan;
}

}  // namespace trireme::plan
