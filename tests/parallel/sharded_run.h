#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/model/model.h"
#include "trireme/parallel/sharded.h"
#include "trireme/plan/recompute.h"

namespace trireme::test {

/// What connects the ranks of a run.
enum class World { kOneHost, kHostsOfOne, kHostsOfTwo };

struct ShardedCase {
  int ranks = 1;
  World world = World::kOneHost;
  int virtual_workers = 4;
  std::string optimizer = "adamw";
  Recompute recompute = Recompute::kNone;
  DType compute = DType::kF32;
  bool defers_weights = false;
};

/// A model of four blocks: an embedding, two layers with normalization and dropout, and an output
/// layer that shares the embedding's weight. It has frozen parameters, one that is never used and
/// one that odd virtual workers use, and parameters of more and of less than 4096 elements.
std::unique_ptr<Model> sharded_model(const ShardedCase& options);

/// All that a run has found, by names and in bits.
struct TrainedSteps {
  std::vector<double> losses;
  std::vector<double> norms;
  std::vector<float> outputs;  ///< of an evaluation after the last step
  /// Gradients of the last step, "gradient.NAME"; then parameters, state of the optimizer and
  /// buffers: their bytes as text, sorted by name.
  std::vector<std::pair<std::string, std::string>> tensors;
  /// What each rank has found, as bytes: losses, norms, outputs and tensors that no optimizer
  /// updates; and the parameters, where ranks hold them all. One each if the ranks agree.
  std::set<std::string> reports;
  std::set<std::string> replicas;
};

/// The same bits in all that both have.
bool is_same(const TrainedSteps& a, const TrainedSteps& b);

/// One rank, every virtual worker in turn.
TrainedSteps train_replicated(ShardedCase options, int steps);

TrainedSteps train_sharded(const ShardingOptions& sharding, const ShardedCase& options, int steps);

/// Calls `body` on every rank of the case's world.
void run_in_world(const ShardedCase& options, const std::function<void(Communicator&)>& body);

/// Trains with any strategy.
TrainedSteps train_with(const std::function<std::unique_ptr<Strategy>(Communicator&)>& make,
                        const ShardedCase& options, int steps);

}  // namespace trireme::test
