#include "trireme/train/checkpoint_tensors.h"

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

void append_shards(std::span<const Shard> shards, std::vector<StateTensor>& tensors) {
  for (const Shard& shard : shards) tensors.push_back(under("model.", shard.state()));
}

void append_state(Optimizer& optimizer, const std::string& prefix,
                  std::vector<StateTensor>& tensors) {
  for (StateTensor& tensor : optimizer.state()) {
    tensors.push_back(under(prefix + "optimizer.", std::move(tensor)));
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
void append_rest(const Model& model, std::vector<StateTensor>& tensors) {
  const NamedTensors of_model = model.tensors();
  const auto append = [&](const NamedTensor& tensor) {
    const at::Tensor stored = stored_view(tensor.second.detach());
    tensors.push_back({.name = "model." + tensor.first,
                       .region = Region(stored.sizes().vec()),
                       .values = host_buffer_of(stored)});
  };
  for (const NamedTensor& parameter : of_model.parameters) {
    if (!parameter.second.requires_grad()) append(parameter);
  }
  for (const NamedTensor& buffer : of_model.buffers) append(buffer);
}

}  // namespace

std::vector<StateTensor> tensors_to_save(std::span<const Shard> shards, Optimizer& optimizer,
                                         Strategy& strategy, const Model& model, bool first_rank) {
  std::vector<StateTensor> tensors;
  const bool every_rank = !strategy.shards_are_whole();
  const Group group = group_of(strategy);
  if (first_rank || every_rank) append_shards(shards, tensors);
  if (first_rank || every_rank || group.leads) append_state(optimizer, prefix_of(group), tensors);
  std::ranges::move(strategy_tensors(strategy.state()), std::back_inserter(tensors));
  if (first_rank) append_rest(model, tensors);
  return tensors;
}

TensorsToLoad tensors_to_load(std::span<const Shard> shards, Optimizer& optimizer,
                              Strategy& strategy, const Model& model,
                              const std::set<std::string>& names) {
  TensorsToLoad wanted;
  const std::string own = prefix_of(group_of(strategy));
  const bool is_known = std::ranges::any_of(
      names, [&](const std::string& name) { return name.starts_with(own + "optimizer."); });
  append_shards(shards, wanted.tensors);
  append_state(optimizer, is_known ? own : "", wanted.tensors);
  append_known(strategy.state(), names, wanted);
  append_rest(model, wanted.tensors);
  return wanted;
}

std::vector<StateTensor> strategy_tensors(std::vector<StateTensor> states) {
  std::vector<StateTensor> tensors;
  for (StateTensor& state : states) tensors.push_back(under("strategy.", std::move(state)));
  return tensors;
}

void append_known(std::vector<StateTensor> states, const std::set<std::string>& names,
                  TensorsToLoad& wanted) {
  for (StateTensor& tensor : strategy_tensors(std::move(states))) {
    if (names.contains(tensor.name)) {
      wanted.tensors.push_back(std::move(tensor));
    } else if (tensor.is_written) {
      wanted.absent.push_back(std::move(tensor.name));
    }
  }
}

}  // namespace trireme
