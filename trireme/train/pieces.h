#pragma once

#include <span>
#include <vector>

#include "trireme/checkpoint/checkpoint.h"
#include "trireme/model/model.h"
#include "trireme/optim/optimizer.h"
#include "trireme/parallel/strategy.h"
#include "trireme/train/config.h"

namespace trireme {

/// What a checkpoint holds of a run: "model.NAME" for parameters and buffers,
/// "optimizer.NAME.SLOT" for the optimizer's state of a parameter, "strategy.NAME" for what the
/// strategy remembers.

/// The pieces that this rank writes: its shards, what its strategy remembers and, on rank 0, what
/// no optimizer updates. Of shards that are whole, rank 0's alone are written.
std::vector<Piece> own_pieces(std::span<const Shard> shards, Optimizer& optimizer,
                              Strategy& strategy, const Model& model, bool first_rank);

/// The pieces that this rank reads.
std::vector<Piece> wanted_pieces(std::span<const Shard> shards, Optimizer& optimizer,
                                 Strategy& strategy, const Model& model);

}  // namespace trireme
