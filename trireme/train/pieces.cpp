#include "trireme/train/pieces.h"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/parallel/relaxed_consistency.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

namespace {

void append_shards(std::span<const Shard> shards, std::vector<Piece>& pieces) {
  for (const Shard& shard : shards) {
    pieces.push_back({"model." + shard.name, shard.full_shape, shard.offset, shard.values});
  }
}

void append_state(Optimizer& optimizer, const std::string& prefix, std::vector<Piece>& pieces) {
  for (const Optimizer::Slot& slot : optimizer.state()) {
    const Shard& shard = *slot.shard;
    const std::string name = fmt::format("{}optimizer.{}.{}", prefix, shard.name, slot.name);
    if (slot.name == "step") {
      pieces.push_back({name, {1}, 0, slot.values});  // the same in every slice of a parameter
    } else {
      pieces.push_back({name, shard.full_shape, shard.offset, slot.values});
    }
  }
}

using Group = RelaxedConsistency::Group;

Group group_of(Strategy& strategy) {
  RelaxedConsistency* const relaxed = strategy.relaxed();
  return relaxed != nullptr ? relaxed->group() : Group();
}

std::string prefix_of(const Group& group) {
  return group.index == 0 ? "" : fmt::format("group-{}.", group.index);
}

Piece piece_of(const Strategy::State& state) {
  return {"strategy." + state.name, state.full_shape, state.offset, state.values};
}

// Buffers and frozen parameters: equal on every rank.
void append_rest(const Model& model, std::vector<Piece>& pieces) {
  const NamedTensors tensors = model.tensors();
  const auto append = [&](const NamedTensor& tensor) {
    pieces.push_back({"model." + tensor.first, tensor.second.sizes().vec(), 0,
                      host_buffer_of(tensor.second.detach())});
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
  const bool every_rank = !strategy.shards_are_whole();
  const Group group = group_of(strategy);
  if (first_rank || every_rank) append_shards(shards, pieces);
  if (first_rank || every_rank || group.leads) append_state(optimizer, prefix_of(group), pieces);
  for (const Strategy::State& state : strategy.state()) {
    if (state.is_written) pieces.push_back(piece_of(state));
  }
  if (first_rank) append_rest(model, pieces);
  return pieces;
}

WantedPieces wanted_pieces(std::span<const Shard> shards, Optimizer& optimizer, Strategy& strategy,
                           const Model& model, const std::set<std::string>& names) {
  WantedPieces wanted;
  const std::string own = prefix_of(group_of(strategy));
  const bool is_known = std::ranges::any_of(
      names, [&](const std::string& name) { return name.starts_with(own + "optimizer."); });
  append_shards(shards, wanted.pieces);
  append_state(optimizer, is_known ? own : "", wanted.pieces);
  append_known(strategy.state(), names, wanted);
  append_rest(model, wanted.pieces);
  return wanted;
}

std::vector<Piece> pieces_of(const std::vector<Strategy::State>& states) {
  std::vector<Piece> pieces;
  for (const Strategy::State& state : states) pieces.push_back(piece_of(state));
  return pieces;
}

void append_known(const std::vector<Strategy::State>& states, const std::set<std::string>& names,
                  WantedPieces& wanted) {
  for (const Strategy::State& state : states) {
    Piece piece = piece_of(state);
    if (names.contains(piece.name)) {
      wanted.pieces.push_back(std::move(piece));
    } else {
      wanted.absent.push_back(std::move(piece.name));
    }
  }
}

}  // namespace trireme
