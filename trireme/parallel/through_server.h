#pragma once

#include <memory>

#include "trireme/comm/communicator.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/parallel/strategy.h"
#include "trireme/server/client.h"

namespace trireme {

struct ThroughServerOptions {
  StrategyOptions world = {};
  /// The servers' optimizer. Its learning rate and the scale of gradients are those of the one that
  /// update() is given.
  OptimizerOptions optimizer = {};
  double clip_value = 0;  ///< gradients are cut to [-clip_value, clip_value]; 0: they are not
  /// The mode, and how far ranks may be apart; workers and virtual workers are the world's.
  server::Consistency consistency = {};
};

/// Parameters and optimizer state live on servers: each rank pushes gradients and pulls parameters
/// (Li et al. 2014, "Scaling Distributed Machine Learning with the Parameter Server").
///
///     auto strategy = through_server(*world, server::embedded(*world), {.optimizer = {"adam"}});
///     Adam optimizer(strategy->attach(*model));   // the rate, and a mirror of the servers' state
///     ...
///     strategy->update(optimizer);                // in place of optimizer.step()
///
/// - synchronous: gradients are summed in the order of ReductionTree, and the parameters have the
///   bits of replicated(). gradient_norm() takes an all-reduce of its own.
/// - bounded and asynchronous, and synchronous with backup workers: each rank pushes the mean over
///   its own virtual workers, and ranks_go_alone(). One pass over the data makes as many updates as
///   there are batches of a rank. loss(), gradient_norm(), flags and the buffers of the model
///   (batch normalisation) are each rank's own; rank 0's buffers end up in the model.
///
/// What ranks that go alone push travels through options.world.compression; residuals are not in
/// checkpoints, which rank 0 writes by itself.
///
/// After the last step, which ask_to_be_in_step() announces, rank 0 waits until the others have
/// done theirs. `client` is this rank's, not joined yet; the strategy must not outlive `world`.
/// attach() throws UsageError if the servers hold another model.
std::unique_ptr<Strategy> through_server(Communicator& world,
                                         std::unique_ptr<server::Client> client,
                                         ThroughServerOptions options);

}  // namespace trireme
