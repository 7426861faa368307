#include "trireme/train/loop_checkpointer.h"

#include <ATen/ATen.h>
#include <c10/util/Type.h>
#include <fmt/format.h>
#include <torch/optim/optimizer.h>
#include <torch/optim/serialize.h>
#include <torch/serialize.h>

#include <algorithm>
#include <map>
#include <span>
#include <sstream>
#include <typeinfo>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/checkpoint/restore_common.h"
#include "trireme/checkpoint/step_folder.h"
#include "trireme/model/model.h"
#include "trireme/parallel/relaxed_consistency.h"
#include "trireme/tensor/named_tensors.h"
#include "trireme/train/checkpoint_tensors.h"
#include "trireme/train/divergence.h"

namespace trireme {

using Known = std::map<std::string, TensorShape>;

/// A model with its strategy and its optimizer.
class LoopCheckpointer::Part {
 public:
  Part(Strategy& strategy, Optimizer* own, torch::optim::Optimizer* torch, const std::string& name)
      : strategy_(strategy),
        own_(own),
        torch_(torch),
        prefix_(name.empty() ? "" : name + "."),
        lrs_(torch != nullptr ? torch->param_groups().size() : 0) {}

  const std::string& prefix() const { return prefix_; }

  void require_synchronous() const {
    strategy_.shards();  // throws before attach()
    RelaxedConsistency* const relaxed = strategy_.relaxed();
    if (relaxed == nullptr || !relaxed->asynchronous()) return;
    throw UsageError(
        "LoopCheckpointer: ranks that are asynchronous do not save together; save the model on "
        "rank 0 by save_model(), or train by `trireme train`");
  }

  /// What this rank writes. Valid until the next call of a function.
  std::vector<StateTensor> to_save(bool is_first_rank) {
    if (RelaxedConsistency* relaxed = strategy_.relaxed(); relaxed != nullptr && own_ != nullptr) {
      relaxed->gather_state(*own_);
    }
    std::vector<StateTensor> tensors = tensors_to_save(own_, strategy_, is_first_rank);
    if (torch_ != nullptr && (is_first_rank || leads_group())) {
      std::ostringstream out;
      torch::save(*torch_, out);
      bytes_ = bytes_of(out.str());
      for (std::size_t i = 0; i < lrs_.size(); ++i) lrs_[i] = options_of_group(i).get_lr();
      append_torch(prefix_of_group(strategy_), tensors);
    }
    return under_prefix(std::move(tensors));
  }

  /// What this rank reads of a checkpoint with the tensors `all`.
  TensorsToLoad to_load(const Known& all) {
    Known known;
    for (const auto& [name, shape] : all) {
      if (name.starts_with(prefix_)) known.emplace(name.substr(prefix_.size()), shape);
    }
    TensorsToLoad wanted = tensors_to_load(own_, strategy_, known);
    if (torch_ != nullptr) {
      const std::string own = prefix_of_group(strategy_);
      const std::string prefix = known.contains(own + name_of_torch()) ? own : "";
      const auto stored = known.find(prefix + name_of_torch());
      bytes_ = at::empty(stored == known.end() ? TensorShape{0} : stored->second, at::kByte);
      append_torch(prefix, wanted.tensors);
    }
    wanted.tensors = under_prefix(std::move(wanted.tensors));
    for (std::string& name : wanted.absent) name.insert(0, prefix_);
    return wanted;
  }

  /// Must be called when what to_load() has returned is filled.
  void finish_load() {
    if (torch_ == nullptr) return;
    std::istringstream in(std::string(static_cast<const char*>(bytes_.data_ptr()), bytes_.numel()));
    try {
      torch::load(*torch_, in);
    } catch (const c10::Error& error) {
      throw UsageError(fmt::format(
          "the state of the {} of {} parameters does not fit: {}; make the optimizer with the "
          "parameters and groups that it was saved with",
          name_of_torch(), strategy_.model().tensors().parameters.size(),
          error.what_without_backtrace()));
    }
    for (std::size_t i = 0; i < lrs_.size(); ++i) options_of_group(i).set_lr(lrs_[i]);
  }

  /// Must be called on all ranks when all have loaded.
  void publish() {
    if (RelaxedConsistency* relaxed = strategy_.relaxed(); relaxed != nullptr && own_ != nullptr) {
      relaxed->scatter_state(*own_);
    }
  }

  void require_finite(std::int64_t step, Communicator& world) {
    require_finite_state(step, own_, strategy_, world);
  }

 private:
  bool leads_group() const {
    RelaxedConsistency* const relaxed = strategy_.relaxed();
    return relaxed != nullptr && relaxed->group().leads;
  }

  // Another optimizer could not read it.
  std::string name_of_torch() const {
    const torch::optim::Optimizer& optimizer = *torch_;
    return "optimizer." + c10::demangle(typeid(optimizer).name());
  }

  torch::optim::OptimizerOptions& options_of_group(std::size_t group) {
    return torch_->param_groups()[group].options();
  }

  void append_torch(const std::string& prefix, std::vector<StateTensor>& tensors) {
    const std::string name = prefix + name_of_torch();
    tensors.push_back(
        {.name = name, .region = Region(bytes_.sizes().vec()), .values = host_buffer_of(bytes_)});
    tensors.push_back({.name = name + ".lr",
                       .region = Region({static_cast<std::int64_t>(lrs_.size())}),
                       .values = buffer_of(std::span(lrs_))});
  }

  static at::Tensor bytes_of(const std::string& text) {
    at::Tensor bytes = at::empty({static_cast<std::int64_t>(text.size())}, at::kByte);
    std::ranges::copy(text, static_cast<char*>(bytes.data_ptr()));
    return bytes;
  }

  std::vector<StateTensor> under_prefix(std::vector<StateTensor> tensors) const {
    for (StateTensor& tensor : tensors) tensor.name.insert(0, prefix_);
    return tensors;
  }

  Strategy& strategy_;
  Optimizer* own_;  // null: torch_
  torch::optim::Optimizer* torch_;
  std::string prefix_;
  at::Tensor bytes_;         // the state of torch_
  std::vector<double> lrs_;  // of its groups, which that does not hold
};

LoopCheckpointer::LoopCheckpointer(std::filesystem::path directory, Communicator& world,
                                   Files& files)
    : directory_(std::move(directory)), world_(world), files_(files) {}

LoopCheckpointer::~LoopCheckpointer() = default;

void LoopCheckpointer::add(Strategy& strategy, Optimizer& optimizer, const std::string& name) {
  add(std::make_unique<Part>(strategy, &optimizer, nullptr, name));
}

void LoopCheckpointer::add(Strategy& strategy, torch::optim::Optimizer& optimizer,
                           const std::string& name) {
  add(std::make_unique<Part>(strategy, nullptr, &optimizer, name));
}

void LoopCheckpointer::add(std::unique_ptr<Part> part) {
  part->require_synchronous();
  for (const auto& other : parts_) {
    if (other->prefix() != part->prefix()) continue;
    throw UsageError(
        fmt::format("LoopCheckpointer: each model must have a name of its own, got two of \"{}\"",
                    part->prefix().substr(0, part->prefix().find('.'))));
  }
  parts_.push_back(std::move(part));
}

LoopCheckpointer::Restored LoopCheckpointer::restore(std::optional<std::int64_t> step) {
  Restored restored;
  const auto load = [&](const std::filesystem::path& folder) {
    const Known known = tensors_of_checkpoint(folder, files_);
    std::vector<StateTensor> wanted;
    restored.absent.clear();
    for (const auto& part : parts_) {
      TensorsToLoad of_part = part->to_load(known);
      std::ranges::move(of_part.tensors, std::back_inserter(wanted));
      std::ranges::move(of_part.absent, std::back_inserter(restored.absent));
    }
    restored.state = load_checkpoint(folder, wanted, files_);
    for (const auto& part : parts_) part->finish_load();
  };
  auto found = restore_common(directory_, step, world_, load, files_);
  if (!found) return restored;
  for (const auto& part : parts_) part->publish();
  world_.barrier();  // no rank trains before the servers have the values
  restored.passed_over = std::move(found->passed_over);
  return restored;
}

void LoopCheckpointer::save(const RunState& state, int keep) {
  std::vector<StateTensor> tensors;
  for (const auto& part : parts_) {
    std::ranges::move(part->to_save(world_.rank() == 0), std::back_inserter(tensors));
    part->require_finite(state.step, world_);
  }
  save_checkpoint(directory_, world_, state, tensors, {.newest = keep}, files_);
  if (world_.rank() > 0) return;
  try {
    remove_later_checkpoints(directory_, state.step, files_);
  } catch (const DataError&) {
    // The new checkpoint is whole; the next save removes what is left.
  }
}

}  // namespace trireme
