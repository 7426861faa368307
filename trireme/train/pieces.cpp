#include "trireme/train/pieces.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "trireme/parallel/relaxed_consistency.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

namespace {

StateTensor under(const std::string& prefix, StateTensor tensor) {
  tensor.name.insert(0, prefix);
  return tensor;
}

void append_shards(std::span<const Shard> shards, std::vector<StateTensor>& pieces) {
  for (const Shard& shard : shards) pieces.push_back(under("model.", shard.state()));
}

void append_state(Optimizer& optimizer, const std::string& prefix,
                  std::vector<StateTensor>& pieces) {
  for (StateTensor& tensor : optimizer.state()) {
    pieces.push_back(under(prefix + "optimizer.", std::move(tensor)));
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

// Buffers and frozen parameters are equal on every rank.
void append_rest(const Model& model, std::vector<StateTensor>& pieces) {
  const NamedTensors tensors = model.tensors();
  const auto append = [&](const NamedTensor& tensor) {
    pieces.push_back({.name = "model." + tensor.first,
                      .region = Region(tensor.second.sizes().vec()),
                      .values = host_buffer_of(tensor.second.detach())});
  };
  for (const NamedTensor& parameter : tensors.parameters) {
    if (!parameter.second.requires_grad()) append(parameter);
  }
  for (const NamedTensor& buffer : tensors.buffers) append(buffer);
}

}  // namespace

std::vector<StateTensor> own_pieces(std::span<const Shard> shards, Optimizer& optimizer,
                                    Strategy& strategy, const Model& model, bool first_rank) {
  std::vector<StateTensor> pieces;
  const bool every_rank = !strategy.shards_are_whole();
  const Group group = group_of(strategy);
  if (first_rank || every_rank) append_shards(shards, pieces);
  if (first_rank || every_rank || group.leads) append_state(optimizer, prefix_of(group), pieces);
  std::ranges::move(pieces_of(strategy.state()), std::back_inserter(pieces));
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

std::vector<StateTensor> pieces_of(std::vector<StateTensor> states) {
  std::vector<StateTensor> pieces;
  for (StateTensor& state : states) pieces.push_back(under("strategy.", std::move(state)));
  return pieces;
}

void append_known(std::vector<StateTensor> states, const std::set<std::string>& names,
                  WantedPieces& wanted) {
  for (StateTensor& piece : pieces_of(std::move(states))) {
    if (names.contains(piece.name)) {
      wanted.pieces.push_back(std::move(piece));
    } else {
      wanted.absent.push_back(std::move(piece.name));
    }
  }
}

}  // namespace trireme
