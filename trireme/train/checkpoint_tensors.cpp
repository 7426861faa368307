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

// They are equal on every rank.
void append_fixed(const Strategy& strategy, std::vector<StateTensor>& tensors) {
  for (const auto& [name, tensor] : strategy.fixed_tensors()) {
    const at::Tensor stored = stored_view(tensor.detach());
    tensors.push_back({.name = "model." + name,
                       .region = Region(stored.sizes().vec()),
                       .values = host_buffer_of(stored)});
  }
}

}  // namespace

std::string prefix_of_group(Strategy& strategy) {
  const Group group = group_of(strategy);
  return group.index == 0 ? "" : fmt::format("group-{}.", group.index);
}

std::vector<StateTensor> tensors_to_save(Optimizer* optimizer, Strategy& strategy,
                                         bool first_rank) {
  std::vector<StateTensor> tensors;
  const bool every_rank = !strategy.shards_are_whole();
  if (first_rank || every_rank) append_shards(strategy.shards(), tensors);
  if (optimizer != nullptr && (first_rank || every_rank || group_of(strategy).leads)) {
    append_state(*optimizer, prefix_of_group(strategy), tensors);
  }
  std::ranges::move(strategy_tensors(strategy.state()), std::back_inserter(tensors));
  if (first_rank) append_fixed(strategy, tensors);
  return tensors;
}

TensorsToLoad tensors_to_load(Optimizer* optimizer, Strategy& strategy,
                              const std::map<std::string, TensorShape>& known) {
  TensorsToLoad wanted;
  const std::string own = prefix_of_group(strategy);
  const bool is_known = std::ranges::any_of(
      known, [&](const auto& tensor) { return tensor.first.starts_with(own + "optimizer."); });
  for (StateTensor& parameter : strategy.parameters_to_load()) {
    wanted.tensors.push_back(under("model.", std::move(parameter)));
  }
  if (optimizer != nullptr) append_state(*optimizer, is_known ? own : "", wanted.tensors);
  append_known(strategy.state(), known, wanted);
  append_fixed(strategy, wanted.tensors);
  return wanted;
}

std::vector<StateTensor> strategy_tensors(std::vector<StateTensor> states) {
  std::vector<StateTensor> tensors;
  for (StateTensor& state : states) tensors.push_back(under("strategy.", std::move(state)));
  return tensors;
}

void append_known(std::vector<StateTensor> states, const std::map<std::string, TensorShape>& known,
                  TensorsToLoad& wanted) {
  for (StateTensor& tensor : strategy_tensors(std::move(states))) {
    if (known.contains(tensor.name)) {
      wanted.tensors.push_back(std::move(tensor));
    } else if (tensor.is_written) {
      wanted.absent.push_back(std::move(tensor.name));
    }
  }
}

}  // namespace trireme
