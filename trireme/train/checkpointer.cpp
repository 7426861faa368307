#include "trireme/train/checkpointer.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>
#include <variant>

#include "trireme/base/error.h"
#include "trireme/comm/self/self.h"
#include "trireme/parallel/relaxed_consistency.h"
#include "trireme/train/checkpoint_tensors.h"

namespace trireme {

namespace {

// What decides which samples a step sees, and what its gradient becomes.
std::map<std::string, std::string> order_of(const Trainer& trainer) {
  const Config& config = trainer.config();
  return {{"training.virtual_workers", std::to_string(trainer.tree().virtual_workers())},
          {"training.global_batch", std::to_string(config.training.global_batch)},
          {"training.seed", std::to_string(config.training.seed)},
          {"data.sampler", config.data.sampler},
          {"optimizer.name", config.optimizer.name}};
}

constexpr const char* kStepsWithoutUpdate = "steps_without_update";

// Checkpoints of earlier versions have no such section.
std::int64_t steps_without_update(const RunState& state) {
  const auto section = state.sections.find(sections::kSchedule);
  if (section == state.sections.end()) return 0;
  const auto value = section->second.find(kStepsWithoutUpdate);
  const auto* const steps =
      value == section->second.end() ? nullptr : std::get_if<std::int64_t>(&value->second);
  return steps != nullptr ? *steps : 0;
}

}  // namespace

Checkpointer::Checkpointer(Trainer& trainer, RunDirectory directory, Files& files)
    : trainer_(trainer), directory_(std::move(directory)), files_(files) {}

std::vector<std::string> Checkpointer::restore() {
  const auto newest = latest_checkpoint(directory_.checkpoints(), files_);
  if (!newest) {
    throw DataError(
        fmt::format("{}: no checkpoint to resume from", directory_.checkpoints().string()));
  }
  TensorsToLoad wanted =
      tensors_to_load(trainer_.shards(), trainer_.optimizer(), trainer_.strategy(),
                      trainer_.model(), tensors_of_checkpoint(*newest, files_));
  const RunState state = load_checkpoint(*newest, wanted.tensors, files_);
  require_same_order(state, *newest);
  trainer_.continue_after(state.step, steps_without_update(state));
  if (auto* relaxed = trainer_.strategy().relaxed()) relaxed->scatter_state(trainer_.optimizer());
  std::ranges::move(restore_local(), std::back_inserter(wanted.absent));
  // Ranks may share memory: no rank may train before all have read.
  trainer_.world().barrier();
  return std::move(wanted.absent);
}

// This rank's own checkpoint has the step of the common one, or is the newest: ranks that are
// stopped by Ctrl-C end after different steps.
std::vector<std::string> Checkpointer::restore_local() {
  const std::vector<StateTensor> states = local_state();
  if (states.empty()) return {};
  const std::filesystem::path folder = directory_.local_checkpoints(trainer_.world().rank());
  std::optional<std::filesystem::path> own = folder / fmt::format("step-{}", trainer_.steps_done());
  if (files_.kind_of(*own) == FileKind::kNone) own = latest_checkpoint(folder, files_);
  TensorsToLoad wanted;
  append_known(states, own ? tensors_of_checkpoint(*own, files_) : std::set<std::string>(), wanted);
  if (!wanted.tensors.empty()) load_checkpoint(*own, wanted.tensors, files_);
  return std::move(wanted.absent);
}

// With other batches or another shuffle it would be another run.
void Checkpointer::require_same_order(const RunState& state,
                                      const std::filesystem::path& checkpoint) const {
  for (const auto& [key, mine] : order_of(trainer_)) {
    const auto theirs = state.metadata.find(key);
    if (theirs != state.metadata.end() && theirs->second == mine) continue;
    throw UsageError(fmt::format(
        "{}: was written with {} = {}, got {}; a run that is resumed keeps it", checkpoint.string(),
        key, theirs == state.metadata.end() ? "nothing" : theirs->second, mine));
  }
}

RunState Checkpointer::state() const {
  return {.step = trainer_.steps_done(),
          .metadata = order_of(trainer_),
          .sections = {
              {sections::kSchedule, {{kStepsWithoutUpdate, trainer_.steps_without_update()}}}}};
}

std::optional<std::filesystem::path> Checkpointer::save() {
  save_local();
  const SavingGroup& group = trainer_.saving_group();
  if (!group.has_this_rank()) return std::nullopt;
  if (auto* relaxed = trainer_.strategy().relaxed()) relaxed->gather_state(trainer_.optimizer());
  trainer_.require_finite_state();
  const auto tensors = tensors_to_save(trainer_.shards(), trainer_.optimizer(), trainer_.strategy(),
                                       trainer_.model(), trainer_.world().rank() == 0);
  save_checkpoint(directory_.checkpoints(), group.communicator(), state(), tensors, keep(), files_);
  return directory_.checkpoints() / fmt::format("step-{}", trainer_.steps_done());
}

std::vector<StateTensor> Checkpointer::local_state() {
  RelaxedConsistency* const relaxed = trainer_.strategy().relaxed();
  return relaxed != nullptr ? relaxed->local_state() : std::vector<StateTensor>();
}

void Checkpointer::save_local() {
  const std::vector<StateTensor> tensors = strategy_tensors(local_state());
  if (tensors.empty()) return;
  const auto alone = self_communicator();
  save_checkpoint(directory_.local_checkpoints(trainer_.world().rank()), *alone, state(), tensors,
                  keep(), files_);
}

}  // namespace trireme
