#include "trireme/train/checkpointer.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <iterator>
#include <map>
#include <span>
#include <utility>
#include <variant>

#include "trireme/base/error.h"
#include "trireme/checkpoint/agreement.h"
#include "trireme/checkpoint/mirror.h"
#include "trireme/checkpoint/step_folder.h"
#include "trireme/comm/self/self.h"
#include "trireme/config/difference.h"
#include "trireme/parallel/relaxed_consistency.h"
#include "trireme/train/checkpoint_tensors.h"
#include "trireme/train/evaluation_metrics.h"
#include "trireme/train/resolved_config.h"

namespace trireme {

namespace {

constexpr const char* kConfigurationText = "toml";

// What decides which samples a step sees, and what its gradient becomes.
std::map<std::string, std::string> order_of(const Trainer& trainer) {
  const Config& config = trainer.config();
  return {{"training.virtual_workers", std::to_string(trainer.tree().virtual_workers())},
          {"training.global_batch", std::to_string(config.training.global_batch)},
          {"training.seed", std::to_string(config.training.seed)},
          {"data.sampler", config.data.sampler},
          {"optimizer.name", config.optimizer.name}};
}

constexpr const char* kSkippedSteps = "skipped_steps";
constexpr const char* kSkippedInARow = "skipped_steps_in_a_row";
constexpr const char* kLossScale = "loss_scale";
constexpr const char* kLossScaleSteps = "loss_scale_steps";
// Groups that train by themselves skip by themselves.
std::string of_group(const char* name, Strategy& strategy) {
  RelaxedConsistency* const relaxed = strategy.relaxed();
  const int group = relaxed != nullptr ? relaxed->group().index : 0;
  return group == 0 ? name : fmt::format("{}.group-{}", name, group);
}

constexpr const char* kLastStep = "last_step";
constexpr const char* kDigest = "digest";

// Checkpoints of earlier versions do not have all sections.
template <class T>
std::optional<T> value_of(const RunState& state, const char* section, const std::string& name) {
  const auto values = state.sections.find(section);
  if (values == state.sections.end()) return std::nullopt;
  const auto value = values->second.find(name);
  if (value == values->second.end() || !std::holds_alternative<T>(value->second)) {
    return std::nullopt;
  }
  return std::get<T>(value->second);
}

void add_evaluation(const EvaluationReport& evaluation, RunState& state) {
  for (const auto& [name, value] : metrics_of(evaluation)) {
    state.sections[sections::kEvaluation][name] = value;
  }
}

}  // namespace

Retention retention_of(const Config& config) {
  const Config::Checkpoint& checkpoint = config.checkpoint;
  Retention retention{.newest = checkpoint.keep};
  if (checkpoint.every_steps == 0) return retention;
  retention.every_steps = checkpoint.keep_every;
  retention.best = checkpoint.keep_best;
  retention.metric = config.evaluation.metric;
  return retention;
}

bool is_kept_by_run(const std::string& key) {
  const std::vector<std::string> kept = {
      "training.virtual_workers", "training.global_batch", "training.seed",
      "training.precision",       "data.sampler",          "optimizer.name"};
  // The files may lie elsewhere.
  if (key == "model.path" || key == "model.weights") return false;
  return key.starts_with("model.") || std::ranges::count(kept, key) > 0;
}

std::optional<std::int64_t> last_step_of(const RunState& state) {
  return value_of<std::int64_t>(state, sections::kSchedule, kLastStep);
}

std::optional<Config> config_of_checkpoint(const RunState& state, const std::string& name,
                                           std::span<const std::string> overrides) {
  const auto text = value_of<std::string>(state, sections::kConfiguration, kConfigurationText);
  if (!text) return std::nullopt;
  return parse_config(*text, "the configuration in " + name, overrides,
                      Config::Origin::Source::kRunDirectory);
}

Checkpointer::Checkpointer(Trainer& trainer, RunDirectory directory, Files& files)
    : trainer_(trainer), directory_(std::move(directory)), files_(files) {}

Restored Checkpointer::restore(std::optional<std::int64_t> step) {
  Restored restored;
  // Ranks may share memory: no rank trains before all have read.
  auto found = restore_newest(step, restored);
  if (!found) {
    throw DataError(
        fmt::format("{}: no checkpoint to resume from", directory_.checkpoints().string()));
  }
  trainer_.continue_after(found->step, restored.skipped, restored.loss_scale);
  std::ranges::move(found->passed_over, std::back_inserter(restored.passed_over));
  if (auto* relaxed = trainer_.strategy().relaxed()) relaxed->scatter_state(trainer_.optimizer());
  restore_local(restored);
  trainer_.world().barrier();
  return restored;
}

std::optional<CommonCheckpoint> Checkpointer::restore_newest(std::optional<std::int64_t> step,
                                                             Restored& restored) {
  const auto restore_from = [&](const std::filesystem::path& directory) {
    return restore_common(
        directory, step, trainer_.world(),
        [&](const std::filesystem::path& folder) { load_or_copy(folder, restored); }, files_);
  };
  std::exception_ptr failure;
  std::string why = "there is no checkpoint";
  try {
    auto found = restore_from(directory_.checkpoints());
    if (found || mirror().empty()) return found;
  } catch (const CommError&) {
    throw;
  } catch (const Error& error) {
    if (mirror().empty()) throw;
    failure = std::current_exception();
    why = error.what();
  }
  try {
    if (auto found = restore_from(mirror())) {
      restored.passed_over.insert(
          restored.passed_over.begin(),
          fmt::format("{}: {}; the copy in {} is taken", directory_.checkpoints().string(), why,
                      mirror().string()));
      return found;
    }
  } catch (const CommError&) {
    throw;
  } catch (const Error&) {
    // What is wrong in the first place is what matters.
    if (!failure) throw;
  }
  if (failure) std::rethrow_exception(failure);
  return std::nullopt;
}

// A checkpoint, or its copy if it is damaged.
void Checkpointer::load_or_copy(const std::filesystem::path& path, Restored& restored) {
  restored.passed_over.clear();
  try {
    return load(path, restored);
  } catch (const DataError& error) {
    const auto copies = mirror().empty() ? std::map<std::int64_t, std::filesystem::path>()
                                         : complete_checkpoints(mirror(), files_);
    const auto step = step_of_folder(path.filename().string());
    const auto copy = step ? copies.find(*step) : copies.end();
    if (copy == copies.end() || copy->second == path) throw;
    try {
      load(copy->second, restored);
    } catch (const DataError&) {
      throw DataError(error.what());
    }
    restored.passed_over.push_back(
        fmt::format("{}; the copy in {} is taken", error.what(), copy->second.string()));
  }
}

void Checkpointer::load(const std::filesystem::path& path, Restored& restored) {
  const RunState state = state_of_checkpoint(path, files_);
  require_same_run(state, path);
  TensorsToLoad wanted = tensors_to_load(&trainer_.optimizer(), trainer_.strategy(),
                                         tensors_of_checkpoint(path, files_));
  load_checkpoint(path, wanted.tensors, files_);
  restored.absent = std::move(wanted.absent);
  const auto count = [&](const char* name) {
    return value_of<std::int64_t>(state, sections::kSchedule, of_group(name, trainer_.strategy()))
        .value_or(0);
  };
  restored.skipped = {.in_all = count(kSkippedSteps), .in_a_row = count(kSkippedInARow)};
  const auto scale =
      value_of<double>(state, sections::kPrecision, of_group(kLossScale, trainer_.strategy()));
  if (scale) {
    const auto steps = value_of<std::int64_t>(state, sections::kPrecision,
                                              of_group(kLossScaleSteps, trainer_.strategy()));
    restored.loss_scale = {.scale = *scale, .steps = steps.value_or(0)};
  }
  restored.last_step = last_step_of(state);
  restored.data_digest = value_of<std::string>(state, sections::kData, kDigest);
}

// This rank's own checkpoint has the step of the common one, or is the newest: ranks that are
// stopped by Ctrl-C end after different steps.
void Checkpointer::restore_local(Restored& restored) {
  const std::vector<StateTensor> states = local_state();
  if (states.empty()) return;
  const std::filesystem::path folder = directory_.local_checkpoints(trainer_.world().rank());
  const auto checkpoints = complete_checkpoints(folder, files_);
  auto own = checkpoints.find(trainer_.steps_done());
  if (own == checkpoints.end() && !checkpoints.empty()) own = std::prev(checkpoints.end());
  TensorsToLoad wanted;
  try {
    const bool is_there = own != checkpoints.end();
    using Known = std::map<std::string, TensorShape>;
    append_known(states, is_there ? tensors_of_checkpoint(own->second, files_) : Known(), wanted);
    if (!wanted.tensors.empty()) load_checkpoint(own->second, wanted.tensors, files_);
  } catch (const DataError& error) {
    restored.passed_over.emplace_back(error.what());
    wanted = {};
    append_known(states, {}, wanted);
  }
  std::ranges::move(wanted.absent, std::back_inserter(restored.absent));
}

// With other batches, another shuffle or another model it would be another run.
void Checkpointer::require_same_run(const RunState& state,
                                    const std::filesystem::path& checkpoint) const {
  const auto refuse = [&](const std::string& key, const std::string& was, const std::string& is) {
    throw UsageError(
        fmt::format("{}: was written with {} = {}, got {}; a run that is resumed keeps it",
                    checkpoint.string(), key, was, is));
  };
  const std::map<std::string, std::string> order = order_of(trainer_);
  for (const auto& [key, mine] : order) {
    const auto theirs = state.metadata.find(key);
    if (theirs == state.metadata.end()) refuse(key, "nothing", mine);
    if (theirs->second != mine) refuse(key, theirs->second, mine);
  }
  require_same_model_files(state, checkpoint);
  const std::optional<Config> written = config_of_checkpoint(state, checkpoint.string());
  if (!written) return;
  for (const KeyDifference& difference : differences(resolved_config(trainer_), *written)) {
    if (is_kept_by_run(difference.key) && !order.contains(difference.key)) {
      refuse(difference.key, difference.other, difference.value);
    }
  }
}

// What the run has begun with. Checkpoints of earlier versions do not say it.
void Checkpointer::require_same_model_files(const RunState& state,
                                            const std::filesystem::path& checkpoint) const {
  if (!state.sections.contains(sections::kModel)) return;
  for (const auto& [key, is] : trainer_.model_files()) {
    const std::string was = value_of<std::string>(state, sections::kModel, key).value_or("");
    if (was == is) continue;
    const auto named = [](const std::string& digest) {
      return digest.empty() ? std::string("no file") : "a file with the SHA-256 " + digest;
    };
    throw UsageError(fmt::format(
        "{}: the run has begun with {} as model.{}, which now names {}; resume with the file as it "
        "was",
        checkpoint.string(), named(was), key, named(is)));
  }
}

RunState Checkpointer::state() const {
  RunState state{.step = trainer_.steps_done(), .metadata = order_of(trainer_)};
  const SkippedSteps skipped = trainer_.skipped_steps();
  Strategy& strategy = trainer_.strategy();
  state.sections[sections::kSchedule] = {{of_group(kSkippedSteps, strategy), skipped.in_all},
                                         {of_group(kSkippedInARow, strategy), skipped.in_a_row},
                                         {kLastStep, trainer_.last_step()}};
  if (const std::optional<LossScale>& scale = trainer_.loss_scale()) {
    state.sections[sections::kPrecision] = {
        {of_group(kLossScale, strategy), scale->value()},
        {of_group(kLossScaleSteps, strategy), scale->state().steps}};
  }
  state.sections[sections::kData][kDigest] = trainer_.data().digest.value;
  RunState::Section& model = state.sections[sections::kModel];
  for (const auto& [key, digest] : trainer_.model_files()) model[key] = digest;
  // Paths may differ between hosts: those of the first rank are saved.
  if (trainer_.world().rank() != 0) return state;
  const std::string text = to_toml(resolved_config(trainer_));
  try {
    parse_config(text, "the configuration", {}, Config::Origin::Source::kRunDirectory);
    state.sections[sections::kConfiguration][kConfigurationText] = text;
  } catch (const UsageError&) {
    // Names of columns that are no UTF-8 are no TOML either.
  }
  return state;
}

std::optional<Checkpointer::Contents> Checkpointer::contents(
    const std::optional<EvaluationReport>& evaluation) {
  const SavingGroup& group = trainer_.saving_group();
  RelaxedConsistency* const relaxed = trainer_.strategy().relaxed();
  if (!group.is_world()) save_local(evaluation);
  if (!group.has_this_rank()) return std::nullopt;
  if (group.is_world() && relaxed != nullptr) {
    // A rank that cannot write must not leave the others waiting.
    agree(group.communicator(), [&] {
      save_local(evaluation);
      return std::string();
    });
  }
  if (relaxed != nullptr) relaxed->gather_state(trainer_.optimizer());
  trainer_.require_finite_state();
  const bool is_first = trainer_.world().rank() == 0;
  Contents contents{state(), tensors_to_save(&trainer_.optimizer(), trainer_.strategy(), is_first)};
  if (evaluation && is_first) add_evaluation(*evaluation, contents.state);
  return contents;
}

// May run beside a step: uses no part of the trainer that changes.
SavedCheckpoint Checkpointer::write(const RunState& state, Communicator& ranks,
                                    std::span<const StateTensor> tensors) const {
  const std::filesystem::path directory = directory_.checkpoints();
  const Retention retention = retention_of(trainer_.config());
  save_checkpoint(directory, ranks, state, tensors, retention, files_);
  SavedCheckpoint saved{.folder = directory / fmt::format("step-{}", state.step)};
  if (ranks.rank() > 0) return saved;
  try {
    // Those that the run had made before it was resumed from an earlier one.
    remove_later_checkpoints(directory, state.step, files_);
  } catch (const DataError&) {
    // The new checkpoint is whole; the next save removes what is left.
  }
  try {
    if (!mirror().empty()) mirror_checkpoint(saved.folder, mirror(), retention, files_);
  } catch (const DataError& error) {
    saved.mirror_error = error.what();
  }
  return saved;
}

std::optional<SavedCheckpoint> Checkpointer::save(
    const std::optional<EvaluationReport>& evaluation) {
  const std::optional<Contents> saved = contents(evaluation);
  if (!saved) return std::nullopt;
  return write(saved->state, trainer_.saving_group().communicator(), saved->tensors);
}

void Checkpointer::start_saving(const std::optional<EvaluationReport>& evaluation) {
  std::optional<Contents> saved = contents(evaluation);
  if (!saved) return;
  if (!background_) background_.emplace(trainer_.saving_group().communicator());
  background_->start(saved->tensors, [this, state = std::move(saved->state)](
                                         Communicator& ranks, std::span<const StateTensor> copies) {
    saved_ = write(state, ranks, copies);
  });
}

std::optional<SavedCheckpoint> Checkpointer::finish_saving() {
  if (!is_saving()) return std::nullopt;
  background_->wait();
  return std::move(saved_);
}

std::vector<StateTensor> Checkpointer::local_state() {
  RelaxedConsistency* const relaxed = trainer_.strategy().relaxed();
  return relaxed != nullptr ? relaxed->local_state() : std::vector<StateTensor>();
}

void Checkpointer::save_local(const std::optional<EvaluationReport>& evaluation) {
  const std::vector<StateTensor> tensors = strategy_tensors(local_state());
  if (tensors.empty()) return;
  const auto alone = self_communicator();
  RunState saved = state();
  if (evaluation) add_evaluation(*evaluation, saved);
  save_checkpoint(directory_.local_checkpoints(trainer_.world().rank()), *alone, saved, tensors,
                  retention_of(trainer_.config()), files_);
}

}  // namespace trireme
