#include "trireme/train/pieces.h"

#include <fmt/format.h>

#include "trireme/tensor/named_tensors.h"

namespace trireme {

namespace {

void append_shards(std::span<const Shard> shards, std::vector<Piece>& pieces) {
  for (const Shard& shard : shards) {
    pieces.push_back({"model." + shard.name, shard.full_shape, shard.offset, shard.values});
  }
}

void append_state(Optimizer& optimizer, std::vector<Piece>& pieces) {
  for (const Optimizer::Slot& slot : optimizer.state()) {
    const Shard& shard = *slot.shard;
    const std::string name = fmt::format("optimizer.{}.{}", shard.name, slot.name);
    if (slot.name == "step") {
      pieces.push_back({name, {1}, 0, slot.values});  // the same in every slice of a parameter
    } else {
      pieces.push_back({name, shard.full_shape, shard.offset, slot.values});
    }
  }
}

void append_strategy(Strategy& strategy, std::vector<Piece>& pieces) {
  for (const Strategy::State& state : strategy.state()) {
    pieces.push_back({"strategy." + state.name, state.full_shape, state.offset, state.values});
  }
}

// Buffers and frozen parameters: equal on every rank.
void append_rest(const Model& model, std::vector<Piece>& pieces) {
  const NamedTensors tensors = model.tensors();
  const auto append = [&](const NamedTensor& tensor) {
    pieces.push_back({"model." + tensor.first, tensor.second.sizes().vec(), 0,
                      buffer_of(tensor.second.detach())});
  };
  for (const NamedTensor& parameter : tensors.parameters) {
    if (!parameter.second.requires_grad()) append(parameter);
  }
  for (const NamedTensor& buffer : tensors.buffers) append(buffer);
}

}  // namespace

std::vector<Piece> own_pieces(std::span<const Shard> shards, Optimizer& optimizer,
                              Strategy& strategy, const Model& model, bool first_rank) {
  std::vector<Piece> pieces;
  if (first_rank || !strategy.shards_are_whole()) {
    append_shards(shards, pieces);
    append_state(optimizer, pieces);
  }
  append_strategy(strategy, pieces);
  if (first_rank) append_rest(model, pieces);
  return pieces;
}

std::vector<Piece> wanted_pieces(std::span<const Shard> shards, Optimizer& optimizer,
                                 Strategy& strategy, const Model& model) {
  std::vector<Piece> pieces;
  append_shards(shards, pieces);
  append_state(optimizer, pieces);
  append_strategy(strategy, pieces);
  append_rest(model, pieces);
  return pieces;
}

}  // namespace trireme
