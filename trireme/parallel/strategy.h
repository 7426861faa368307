#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "trireme/tensor/shard.h"

namespace torch::nn {
class Module;
}

namespace trireme {

class Communicator;

/// How gradients and parameters are kept in step between ranks: the four moments of a step.
///
///     auto strategy = replicated(*world);
///     AdamW optimizer(strategy->attach(*model));
///     for (...) {
///       strategy->begin();
///       loss(model->forward(x), y).backward();
///       strategy->reduce_gradients();
///       optimizer.step();
///       strategy->publish_parameters();
///     }
///
/// The gradient of a step is the mean over its virtual workers: one backward pass each, unless the
/// step has fewer. Used by the thread that runs backward.
class Strategy {
 public:
  virtual ~Strategy() = default;

  /// Once, collective: makes every rank's parameters and buffers equal to rank 0's, moves the
  /// parameters into the strategy's memory and hooks their gradients. The shards returned are what
  /// this rank's optimizer updates; they live as long as the strategy, which must not outlive the
  /// module or the communicator.
  virtual std::span<Shard> attach(torch::nn::Module& model) = 0;

  /// Before the first forward of a step in which this rank runs `backward_passes`, one for each of
  /// its virtual workers; fewer (or none) where the last ones have no samples.
  virtual void begin(int backward_passes) = 0;
  void begin();  ///< one for each virtual worker of this rank

  /// After the last backward: the gradients of the shards are ready once this returns.
  virtual void reduce_gradients() = 0;

  /// After the optimizer: the next forward, on any rank, sees the new parameters.
  virtual void publish_parameters() = 0;
};

}  // namespace trireme
