#pragma once

#include <map>
#include <string>
#include <vector>

#include "trireme/checkpoint/checkpoint.h"
#include "trireme/config/config.h"
#include "trireme/optim/optimizer.h"
#include "trireme/parallel/strategy.h"

namespace trireme {

/// The tensors that a checkpoint holds of a run: "model.NAME" for parameters and buffers,
/// "optimizer.NAME.SLOT" for the optimizer's state of a parameter, "strategy.NAME" for the state of
/// the strategy. Groups of ranks other than the first have "group-N." before the state of their own
/// optimizers.

/// Returns what this rank writes: its shards, the state of its optimizer and its strategy and, on
/// rank 0, the tensors that no optimizer updates. If shards are whole, only rank 0 writes them, and
/// one rank of each group writes the optimizer's state. `optimizer`: null for none.
std::vector<StateTensor> tensors_to_save(Optimizer* optimizer, Strategy& strategy, bool first_rank);

/// Returns "", or "group-N." for the names of the optimizer's state of this rank's group.
std::string prefix_of_group(Strategy& strategy);

/// Returns `states`, of the strategy, under their names in a checkpoint.
std::vector<StateTensor> strategy_tensors(std::vector<StateTensor> states);

struct TensorsToLoad {
  std::vector<StateTensor> tensors;
  /// State of the strategy that this rank would write and that the checkpoint, perhaps of another
  /// mode, does not hold.
  std::vector<std::string> absent;
};

/// Returns what this rank reads of a checkpoint with tensors of these names. A group that the
/// checkpoint does not hold starts with the optimizer state of the first group. `optimizer`: null
/// for none.
TensorsToLoad tensors_to_load(Optimizer* optimizer, Strategy& strategy,
                              const std::map<std::string, TensorShape>& known);

/// Adds those of `states`, of the strategy, that a checkpoint with tensors of these names holds to
/// `wanted.tensors`, and the names of the others that are written to `wanted.absent`.
void append_known(std::vector<StateTensor> states, const std::map<std::string, TensorShape>& known,
                  TensorsToLoad& wanted);

}  // namespace trireme
