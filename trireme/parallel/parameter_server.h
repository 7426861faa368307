#pragma once

#include <functional>
#include <memory>

#include "trireme/comm/communicator.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/parallel/strategy.h"
#include "trireme/parallel/strategy_options.h"
#include "trireme/server/client.h"

namespace trireme {

struct ParameterServerOptions {
  StrategyOptions world = {};
  /// The servers' optimizer. Its learning rate and gradient scale are those of the optimizer that
  /// update() is given.
  OptimizerOptions optimizer = {};
  double clip_value = 0;  ///< gradients are clamped to [-clip_value, clip_value]; 0: they are not
  /// The mode, and how far groups may be apart. The workers are the groups; the virtual workers are
  /// those of the world.
  server::Consistency consistency = {};
  /// This many consecutive ranks are a group, which is synchronous inside, as with replicated(),
  /// and is one worker; 1: each rank is a worker, 0: the ranks that share memory are one. Must be 1
  /// in plain synchronous mode.
  int group_size = 1;
};

/// Returns this rank's client, which has not joined yet. `workers` connects the ranks that are
/// workers, in order, and outlives the client.
using ClientFactory = std::function<std::unique_ptr<server::Client>(Communicator& workers)>;

/// Parameters and optimizer state live on servers: workers push gradients and pull parameters
/// (Li et al. 2014, "Scaling Distributed Machine Learning with the Parameter Server").
///
///     auto strategy = parameter_server(
///         *world, [](Communicator& workers) { return server::embedded(workers); },
///         {.optimizer = {"adam"}});
///     Adam optimizer(strategy->attach(*model));   // the rate, and a mirror of the servers' state
///
/// - synchronous: gradients are summed in the order of ReductionTree, and the parameters have the
///   bits of replicated(). gradient_norm() takes an all-reduce of its own.
/// - bounded and asynchronous, and synchronous with backup workers: relaxed()->asynchronous() is
///   true. Groups of ranks, of one rank each unless group_size says otherwise, push the sum over
///   their virtual workers divided by the weight of the step over the number of groups. One pass
///   over the data makes as many updates as there are batches of a group. The loss, the norm, a
///   request to stop and the buffers of the model (batch normalization) are each group's own; the
///   buffers of rank 0 end up in the model.
///
/// Inside a group gradients are averaged as with replicated(); its first rank alone talks with the
/// servers, and broadcasts what it pulls, so that after each step all ranks of a group have the
/// same bits. A group ends if any of its ranks is lost. One group of all ranks has the bits of
/// replicated().
///
/// What is pushed in asynchronous modes is compressed by options.world.compression; the residuals
/// are local_state(), since rank 0 writes checkpoints alone.
///
/// In its last step, update() must be given Sync::kNow: rank 0 then waits until the other groups
/// have made their last step. attach() calls `make_client` on the workers, and throws UsageError if
/// the servers hold another model. The strategy must not outlive `world`.
std::unique_ptr<Strategy> parameter_server(Communicator& world, ClientFactory make_client,
                                           ParameterServerOptions options);

}  // namespace trireme
