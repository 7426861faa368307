#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "trireme/optim/shard.h"

namespace trireme {

/// Parameters are cut into blocks of this many elements, from their first element on. Norms are
/// summed block by block, and a parameter is cut between ranks only at the edge of a block, so that
/// a norm has the same bits however the parameters are distributed.
constexpr std::int64_t kBlock = 4096;

inline std::int64_t blocks_of(std::int64_t elements) {
  return (elements + kBlock - 1) / kBlock;
}

/// Appends the sum of squares of each block of each shard's gradient. Shards begin at block edges
/// and their gradients must be single arrays (tree == nullptr). A shard without gradient counts as
/// zero.
void append_block_squares(std::span<const Shard> shards, std::vector<double>& squares);

/// The L2 norm of all blocks, summed in their order.
double norm_of(std::span<const double> block_squares);

}  // namespace trireme
