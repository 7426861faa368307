#include "trireme/cli/resume.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/base/text.h"
#include "trireme/checkpoint/agreement.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/checkpoint/step_folder.h"
#include "trireme/cli/configuration_words.h"
#include "trireme/cli/terminal.h"
#include "trireme/config/difference.h"
#include "trireme/formats/safetensors_index.h"
#include "trireme/train/checkpointer.h"
#include "trireme/train/sealed_text.h"

namespace trireme::cli {

namespace {

using Source = Config::Origin::Source;

// What `--resume auto` does.
enum class Beginning { kNew, kResumed, kComplete };

constexpr const char* kResumed = "resumed";
constexpr const char* kComplete = "complete";

// Those in the run's directory, or else those in its mirror.
std::map<std::int64_t, std::filesystem::path> checkpoints_of(const ResumedRun& run) {
  auto checkpoints = complete_checkpoints(run.directory.checkpoints(), real_files());
  if (!checkpoints.empty() || run.mirror.empty()) return checkpoints;
  return complete_checkpoints(run.mirror, real_files());
}

bool has_config(const RunDirectory& run) {
  return real_files().kind_of(run.config()) == FileKind::kFile;
}

// Whether the run whose newest checkpoint has this state is done.
bool is_complete(const RunState& state, const RunDirectory& run) {
  if (last_step_of(state) != state.step) return false;
  return real_files().kind_of(safetensors_file_or_index(run.model())) == FileKind::kFile;
}

// Whether the command line lets the run end elsewhere than it has.
bool changes_end(const Config& config, const Config& written) {
  const auto is_changed = [&](const char* key, std::int64_t now, std::int64_t was) {
    const auto origin = config.origins.find(key);
    return now != was && origin != config.origins.end() &&
           origin->second.source == Source::kCommandLine;
  };
  return is_changed("training.steps", config.training.steps, written.training.steps) ||
         is_changed("training.epochs", config.training.epochs, written.training.epochs);
}

ResumedRun run_of(const Job& job) {
  return {.directory = {job.config.run.directory},
          .step = std::nullopt,
          .mirror = job.config.checkpoint.mirror};
}

Beginning beginning_of(const Job& job) {
  const ResumedRun run = run_of(job);
  if (checkpoints_of(run).empty()) return Beginning::kNew;
  const std::optional<RunState> state = state_to_resume(run, false);
  if (!state || !is_complete(*state, run.directory)) return Beginning::kResumed;
  const auto written = config_of_checkpoint(*state, "the newest checkpoint");
  return written && changes_end(job.config, *written) ? Beginning::kResumed : Beginning::kComplete;
}

// What the configuration file says and the run does not have, a sentence each.
std::vector<std::string> ignored_values(const Config& asked, const Config& of_run) {
  // A run has other values of these than its file: those that were found.
  const std::vector<std::string> found = {"data.features", "training.shares",
                                          "training.measure_shares", "training.virtual_workers"};
  std::map<std::string, std::string> defaults;
  for (const KeyDescription& key : config_keys()) defaults[key.name] = key.default_value;
  std::vector<std::string> sentences;
  const Config absolute = with_absolute_paths(asked, std::filesystem::current_path());
  for (const KeyDifference& difference : differences(absolute, of_run)) {
    const auto origin = asked.origins.find(difference.key);
    if (origin == asked.origins.end() || origin->second.source != Source::kFile) continue;
    if (difference.value == defaults[difference.key]) continue;
    if (std::ranges::count(found, difference.key) > 0) continue;
    sentences.push_back(
        fmt::format("{}: {} is {}, the run has {} and keeps it; the command line changes it: {}",
                    origin->second.where, difference.key, difference.value, difference.other,
                    shell_quoted(fmt::format("{}={}", difference.key, difference.value))));
  }
  return sentences;
}

Job resumed_job(const Job& job, const TrainArguments& arguments,
                const RankEnvironment& environment) {
  TrainArguments resumed = arguments;
  const std::string& directory = job.config.run.directory;
  resumed.resume = directory == kAuto ? "./" + directory : directory;
  resumed.mirror = job.config.checkpoint.mirror;
  resumed.words = parse_words("train", arguments.words).overrides;
  std::erase_if(resumed.words, [](const auto& word) { return word.starts_with("run.directory="); });
  Job result = job_of(resumed, environment);
  std::ranges::move(ignored_values(job.config, result.config), std::back_inserter(result.changes));
  return result;
}

Job complete_job(const Job& job) {
  Job result = job;
  const auto state = state_to_resume(run_of(job), true);
  result.complete_after = state ? state->step : 0;
  const auto written = state ? config_of_checkpoint(*state, "the newest checkpoint") : std::nullopt;
  if (written) result.changes = ignored_values(job.config, *written);
  return result;
}

}  // namespace

ResumedRun resumed_run(const TrainArguments& arguments) {
  std::filesystem::path path = arguments.resume;
  if (!path.has_filename()) path = path.parent_path();
  ResumedRun run{{path}, arguments.step, arguments.mirror};
  const auto step = step_of_folder(path.filename().string());
  const std::filesystem::path checkpoints = std::filesystem::absolute(path).parent_path();
  if (step && checkpoints.filename() == RunDirectory{}.checkpoints().filename()) {
    if (run.step && run.step != step) {
      throw UsageError(
          fmt::format("train: --step {} and --resume {} name two checkpoints; leave one out",
                      *run.step, arguments.resume));
    }
    const auto root = path.parent_path().parent_path();
    run.directory.root = root.empty() ? checkpoints.parent_path() : root;
    run.step = step;
  }
  if (run.mirror.empty() && has_config(run.directory)) {
    const std::vector<std::string> overrides = parse_words("train", arguments.words).overrides;
    run.mirror = read_run_config(run.directory.config(), overrides).checkpoint.mirror;
  }
  return run;
}

Config config_of_run(const ResumedRun& run, const std::vector<std::string>& overrides) {
  if (has_config(run.directory) || run.mirror.empty()) {
    return read_run_config(run.directory.config(), overrides);
  }
  const auto state = state_to_resume(run, false);
  const auto written =
      state ? config_of_checkpoint(*state, run.mirror.string(), overrides) : std::nullopt;
  return written ? *written : read_run_config(run.directory.config(), overrides);
}

std::optional<RunState> state_to_resume(const ResumedRun& run, bool is_one_of_several) {
  const std::string folder = run.directory.checkpoints().string();
  const auto checkpoints = checkpoints_of(run);
  const bool is_there = run.step ? checkpoints.contains(*run.step) : !checkpoints.empty();
  if (!is_there && is_one_of_several) return std::nullopt;
  if (checkpoints.empty()) {
    const std::string root = run.directory.root.string();
    if (real_files().kind_of(run.directory.root) != FileKind::kDirectory) {
      throw UsageError(fmt::format("train: --resume must name the directory of a run, {} {}", root,
                                   real_files().kind_of(run.directory.root) == FileKind::kNone
                                       ? "does not exist"
                                       : "is not a directory"));
    }
    throw UsageError(
        fmt::format("train: {} holds no checkpoint to resume from; start the run anew "
                    "from its configuration",
                    folder));
  }
  if (run.step) {
    const auto found = checkpoints.find(*run.step);
    if (found != checkpoints.end()) return state_of_checkpoint(found->second);
    std::vector<std::int64_t> steps;
    for (const auto& [step, path] : checkpoints) steps.push_back(step);
    throw UsageError(fmt::format("train: {} holds no checkpoint of step {}, only of {}", folder,
                                 *run.step, fmt::join(steps, ", ")));
  }
  for (auto checkpoint = checkpoints.rbegin(); checkpoint != checkpoints.rend(); ++checkpoint) {
    try {
      return state_of_checkpoint(checkpoint->second);
    } catch (const DataError&) {
      // The run falls back to an older one, too, and says so.
    }
  }
  return std::nullopt;
}

std::vector<std::string> require_config_of(const RunState& state, const Config& config,
                                           const RunDirectory& run) {
  const std::string name = fmt::format("the checkpoint of step {}", state.step);
  const std::optional<Config> written = config_of_checkpoint(state, name);
  if (!written) return {};
  std::vector<std::string> changes, refused, words;
  const Config absolute = with_absolute_paths(config, std::filesystem::current_path());
  // An earlier --resume may have changed keys after this checkpoint was written.
  const bool is_as_written = !has_config(run) || is_sealed(read_file(run.config()));
  for (const KeyDifference& difference : differences(absolute, *written)) {
    const auto origin = config.origins.find(difference.key);
    const bool was_asked_for = origin != config.origins.end() &&
                               origin->second.source == Config::Origin::Source::kCommandLine;
    // Refused by every rank, asked for or not.
    if (was_asked_for && is_kept_by_run(difference.key)) continue;
    std::string text = fmt::format("{} is {}, {} has {}", difference.key, difference.value, name,
                                   difference.other);
    if (was_asked_for || is_as_written) {
      changes.push_back(std::move(text));
      continue;
    }
    refused.push_back(std::move(text));
    words.push_back(shell_quoted(fmt::format("{}={}", difference.key, difference.other)));
  }
  if (refused.empty()) return changes;
  throw UsageError(
      fmt::format("{} is not the configuration that was trained with: {}; say on the command line "
                  "which value is meant, for those of the checkpoint: {}",
                  run.config().string(), fmt::join(refused, "; "), fmt::join(words, " ")));
}

Job decided_job(const Job& job, const TrainArguments& arguments,
                const RankEnvironment& environment) {
  const Beginning beginning = beginning_of(job);
  if (beginning == Beginning::kNew) return job;
  return beginning == Beginning::kComplete ? complete_job(job)
                                           : resumed_job(job, arguments, environment);
}

Job decided_job(const Job& job, const TrainArguments& arguments, const RankEnvironment& environment,
                Communicator& world) {
  const std::vector<std::string> decisions = agree(world, [&]() -> std::string {
    if (world.rank() != 0) return "";
    const Beginning beginning = beginning_of(job);
    if (beginning == Beginning::kNew) return "";
    return beginning == Beginning::kComplete ? kComplete : kResumed;
  });
  if (decisions.front().empty()) return job;
  Job decided = job;
  agree(world, [&] {
    decided = decisions.front() == kComplete ? complete_job(job)
                                             : resumed_job(job, arguments, environment);
    return std::string();
  });
  return decided;
}

std::string complete_text(const Job& job) {
  const RunDirectory run{job.config.run.directory};
  const std::int64_t steps = job.complete_after.value_or(0);
  const std::string model = safetensors_file_or_index(run.model()).string();
  if (!job.json) {
    return fmt::format("{}: the run is complete, after {}: {}\n", run.root.string(),
                       with_commas(steps, "step"), model);
  }
  const nlohmann::ordered_json json = {{"steps", steps}, {"complete", true}, {"model", model}};
  return json.dump(2) + "\n";
}

}  // namespace trireme::cli
