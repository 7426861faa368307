#include "trireme/parallel/make_strategy.h"

#include <chrono>
#include <variant>

#include "trireme/parallel/host_shared.h"
#include "trireme/parallel/local_steps.h"
#include "trireme/parallel/parameter_server.h"
#include "trireme/parallel/replicated.h"
#include "trireme/parallel/sharded.h"
#include "trireme/parallel/strategy_options.h"
#include "trireme/server/embedded/embedded.h"
#include "trireme/server/zmq/connect_servers.h"

namespace trireme {

namespace {

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
  std::unique_ptr<Strategy> operator()(const plan::Sharded& sharding) const {
    return sharded(world,
                   {.stage = sharding.stage,
                    .within_host = sharding.within_host,
                    .whole_parameters = sharding.whole_parameters},
                   strategy_options_of(plan));
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

std::unique_ptr<Strategy> make_strategy(const plan::RunPlan& plan, Communicator& world) {
  return std::visit(MakeStrategy{plan, world}, plan.data_parallel);
}

ReductionTree tree_of(const plan::RunPlan& plan) {
  return tree_of(strategy_options_of(plan), plan.mesh.data);
}

}  // namespace trireme
