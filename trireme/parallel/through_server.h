#pragma once

#include <functional>
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
  /// The mode, and how far groups may be apart; workers are the groups, virtual workers the
  /// world's.
  server::Consistency consistency = {};
  /// So many ranks in a row are a group, which stays in step as with replicated() and is one
  /// worker; 1: each rank alone, 0: the ranks that share memory. Only 1 in plain synchronous mode.
  int group_size = 1;
};

/// Makes this rank's client, not joined yet. `workers` connects the ranks that are workers, in
/// order, and outlives the client.
using ClientFactory = std::function<std::unique_ptr<server::Client>(Communicator& workers)>;

/// Parameters and optimizer state live on servers: workers push gradients and pull parameters
/// (Li et al. 2014, "Scaling Distributed Machine Learning with the Parameter Server").
///
///     auto strategy = through_server(
///         *world, [](Communicator& workers) { return server::embedded(workers); },
///         {.optimizer = {"adam"}});
///     Adam optimizer(strategy->attach(*model));   // the rate, and a mirror of the servers' state
///     ...
///     strategy->update(optimizer);                // in place of optimizer.step()
///
/// - synchronous: gradients are summed in the order of ReductionTree, and the parameters have the
///   bits of replicated(). gradient_norm() takes an all-reduce of its own.
/// - bounded and asynchronous, and synchronous with backup workers: groups of ranks, of one rank
///   each unless group_size says otherwise, push the mean over their virtual workers, times
///   how many these are beside a group's in the mean, and ranks_go_alone(). One pass over the data
///   makes as many updates as there are batches of a group. loss(), gradient_norm(), flags and the
///   buffers of the model (batch normalisation) are each group's own; those buffers of rank 0 end
///   up in the model.
///
/// Inside a group gradients are averaged as with replicated(); its first rank alone talks with the
/// servers, and hands the others what it pulls, so that after each step they have the same bits. A
/// group is lost with any of its ranks. One group of all ranks has the bits of replicated().
///
/// What is pushed in these modes travels through options.world.compression; residuals are
/// own_state(), since rank 0 writes checkpoints by itself.
///
/// After the last step, which ask_to_be_in_step() announces, rank 0 waits until the other groups
/// have done theirs. attach() calls `make_client` on the workers, and throws UsageError if the
/// servers hold another model. The strategy must not outlive `world`.
std::unique_ptr<Strategy> through_server(Communicator& world, ClientFactory make_client,
                                         ThroughServerOptions options);

}  // namespace trireme
