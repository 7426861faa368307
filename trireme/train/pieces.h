#pragma once

#include <span>
#include <vector>

#include "trireme/checkpoint/checkpoint.h"
#include "trireme/model/model.h"
#include "trireme/optim/optimizer.h"
#include "trireme/train/config.h"

namespace trireme {

/// What a checkpoint holds of a run: "model.NAME" for parameters and buffers,
/// "optimizer.NAME.SLOT" for the optimizer's state of a parameter.

/// The pieces that this rank writes: its shards and, on rank 0, what no optimizer updates.
std::vector<Piece> own_pieces(std::span<const Shard> shards, Optimizer& optimizer,
                              const Model& model, bool first_rank);

/// The pieces that this rank reads.
std::vector<Piece> wanted_pieces(std::span<const Shard> shards, Optimizer& optimizer,
                                 const Model& model);

}  // namespace trireme
