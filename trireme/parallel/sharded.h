#pragma once

#include <memory>

#include "trireme/comm/communicator.h"
#include "trireme/parallel/strategy.h"
#include "trireme/parallel/strategy_options.h"

namespace trireme {

struct ShardingOptions {
  /// 1: each rank holds and updates its part of the optimizer's state; 2: it also holds its part of
  /// the gradients alone; 3: of the parameters as well.
  int stage = 3;
  /// The parts are spread over the ranks of each host, and hosts hold copies. Otherwise they are
  /// spread over all ranks.
  bool within_host = false;
  /// Each parameter belongs to one rank as a whole, for optimizers that need that: Lamb, Muon.
  bool whole_parameters = false;
};

/// ZeRO (Rajbhandari et al. 2020): as replicated(), with the same bits, but optimizer state,
/// gradients and parameters are divided between ranks. Needs trireme's optimizers.
///
/// In stage 3, parameters exist once on ranks that share memory, and are not gathered. Where they
/// do not all share memory, the parameters of a block are gathered before it computes and freed
/// afterwards: then attach() needs a Model, or a Sequential of which strategy->model() is used to
/// compute, and each forward pass of a step must be followed by its backward pass. Outside of steps
/// all ranks must make the same number of forward passes; Model::skip_forward() makes up for those
/// that a rank lacks.
///
/// In memory, f32, with an optimizer of two states and one virtual worker a rank, a parameter costs
/// a rank of N 8 + 8/N, 4 + 12/N and 16/N bytes in stages 1, 2 and 3 (docs/sharding.md). A
/// parameter that does not require a gradient in attach() lies on every rank.
///
/// Throws UsageError for another stage, and for any codec but "none".
std::unique_ptr<Strategy> sharded(Communicator& world, ShardingOptions sharding = {},
                                  StrategyOptions options = {});

}  // namespace trireme
