#pragma once

#include <set>
#include <span>
#include <string>
#include <vector>

#include "trireme/checkpoint/checkpoint.h"
#include "trireme/config/config.h"
#include "trireme/model/model.h"
#include "trireme/optim/optimizer.h"
#include "trireme/parallel/strategy.h"

namespace trireme {

/// What a checkpoint holds of a run: "model.NAME" for parameters and buffers,
/// "optimizer.NAME.SLOT" for the optimizer's state of a parameter, "strategy.NAME" for what the
/// strategy remembers. Groups of ranks other than the first put "group-N." before what their own
/// optimizers hold.

/// The pieces that this rank writes: its shards, what its strategy remembers and, on rank 0, what
/// no optimizer updates. Of shards that are whole, rank 0's alone are written, and of optimizer
/// state each group's.
std::vector<StateTensor> own_pieces(std::span<const Shard> shards, Optimizer& optimizer,
                                    Strategy& strategy, const Model& model, bool first_rank);

/// Of local_state().
std::vector<StateTensor> pieces_of(std::vector<StateTensor> states);

struct WantedPieces {
  std::vector<StateTensor> pieces;
  /// What the strategy could remember and the checkpoint, of another mode perhaps, does not hold.
  std::vector<std::string> absent;
};

/// The pieces that this rank reads of a checkpoint with tensors of these names. A group that it
/// does not know starts with the first one's optimizer state.
WantedPieces wanted_pieces(std::span<const Shard> shards, Optimizer& optimizer, Strategy& strategy,
                           const Model& model, const std::set<std::string>& names);

/// Those of `states` that a checkpoint with tensors of these names holds, and the others.
void append_known(std::vector<StateTensor> states, const std::set<std::string>& names,
                  WantedPieces& wanted);

}  // namespace trireme
