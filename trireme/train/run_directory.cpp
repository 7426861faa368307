#include "trireme/train/run_directory.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "trireme/base/atomic_file.h"
#include "trireme/base/error.h"
#include "trireme/checkpoint/step_folder.h"
#include "trireme/formats/printable.h"
#include "trireme/formats/safetensors_model.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kProbe = "trireme-probe";
constexpr std::string_view kProbeFolder = "trireme-probe.folder";

// "rank-12" with the ending ".log": rank-12.log
bool is_of_rank(std::string_view name, std::string_view ending) {
  constexpr std::string_view kRank = "rank-";
  if (!name.starts_with(kRank) || !name.ends_with(ending)) return false;
  name.remove_prefix(kRank.size());
  if (name.size() <= ending.size()) return false;
  name.remove_suffix(ending.size());
  return name.find_first_not_of("0123456789") == std::string_view::npos;
}

bool is_directory(const fs::path& path, Files& files) {
  return !files.is_link(path) && files.kind_of(path) == FileKind::kDirectory;
}

void remove_if_empty(const fs::path& directory, Files& files) {
  if (is_directory(directory, files) && files.names_in(directory).empty()) files.remove(directory);
}

// Versions before the header wrote config.toml and metrics.jsonl.
bool holds_run(const RunDirectory& run, Files& files) {
  if (files.kind_of(run.config()) != FileKind::kFile) return false;
  const std::string text = read_file(run.config(), files);
  if (text.starts_with(kRunConfigHeader)) return true;
  return text.starts_with("[run]\ndirectory = ") && files.kind_of(run.metrics()) == FileKind::kFile;
}

bool are_logs(const fs::path& path, Files& files) {
  if (!is_directory(path, files)) return false;
  return std::ranges::all_of(files.names_in(path),
                             [](const std::string& name) { return is_of_rank(name, ".log"); });
}

// Of the model's files in either form.
bool is_unfinished_model(std::string_view name, const RunDirectory& run) {
  const std::string_view target = name.substr(0, name.rfind(".partial-"));
  return is_left_by_atomic_file(name, target) &&
         is_of_safetensors_model(target, run.model().filename().string());
}

bool is_unfinished(std::string_view name, const RunDirectory& run) {
  if (name == kProbe || name == kProbeFolder || is_unfinished_model(name, run)) return true;
  const std::vector<std::string> targets = {
      run.config().filename(),          run.metrics().filename(),   run.model().filename(),
      run.standardization().filename(), run.tokenizer().filename(), std::string(kProbe)};
  return std::ranges::any_of(
      targets, [&](const std::string& target) { return is_left_by_atomic_file(name, target); });
}

// What a run writes before its first step.
bool is_of_beginning(const std::string& name, const RunDirectory& run, Files& files) {
  if (run.root / name == run.lock() || is_unfinished(name, run)) return true;
  return run.root / name == run.logs() && are_logs(run.logs(), files);
}

// Of probe(), as far as possible.
void clear_probe(const fs::path& directory, Files& files) {
  try {
    for (const fs::path& folder : {directory / kProbeFolder, directory / kProbe}) {
      if (!is_directory(folder, files)) continue;
      for (const std::string& name : files.names_in(folder)) {
        if (name == kProbe || is_left_by_atomic_file(name, kProbe)) files.remove(folder / name);
      }
      remove_if_empty(folder, files);
    }
  } catch (const DataError&) {
    // The next run tries again.
  }
}

void probe(const fs::path& directory, Files& files) {
  const fs::path folder = directory / kProbeFolder, renamed = directory / kProbe;
  try {
    files.make_directory(folder);
    write_file_atomically(folder / kProbe, "probe", files);
    write_file_atomically(folder / kProbe, "written once more", files);
    files.rename(folder, renamed);
    files.sync_directory(directory);
    files.remove(renamed / kProbe);
    files.remove(renamed);
  } catch (const DataError& error) {
    clear_probe(directory, files);
    throw DataError(
        fmt::format("run.directory: in {} files and folders must be written, synced, renamed and "
                    "removed; choose another directory or make room: {}",
                    directory.string(), error.what()));
  }
}

void remove_checkpoints(const fs::path& directory, Files& files) {
  if (!is_directory(directory, files)) return;
  clear_unfinished_checkpoints(directory, files);
  for (const auto& [step, path] : complete_checkpoints(directory, files)) {
    StepFolder(directory, step, files).remove();
  }
  remove_if_empty(directory, files);
}

}  // namespace

void require_own_directory(const RunDirectory& run, Files& files) {
  if (files.kind_of(run.root) != FileKind::kDirectory || holds_run(run, files)) return;
  std::vector<std::string> others;
  for (const std::string& name : files.names_in(run.root)) {
    if (!is_of_beginning(name, run, files)) others.push_back(printable(name));
  }
  if (others.empty()) return;
  constexpr std::size_t kShown = 5;
  std::ranges::sort(others);
  const std::size_t more = others.size() - std::min(others.size(), kShown);
  others.resize(others.size() - more);
  throw UsageError(
      fmt::format("run.directory: {} must be empty, hold a run or not exist, but it has {}{}, "
                  "which trireme has "
                  "not written; choose another directory",
                  run.root.string(), fmt::join(others, ", "),
                  more > 0 ? fmt::format(" and {} more", more) : ""));
}

void probe_directory(const RunDirectory& run, Files& files) {
  for (const fs::path& path :
       {run.config(), run.metrics(), run.standardization(), run.tokenizer()}) {
    if (files.kind_of(path) != FileKind::kNone) require_file(path, files);
  }
  for (const fs::path& path : safetensors_model_files(run.model(), files)) {
    require_file(path, files);
  }
  probe(run.root, files);
  // Perhaps on another file system.
  if (files.is_link(run.checkpoints())) probe(run.checkpoints(), files);
}

void remove_unfinished(const RunDirectory& run, Files& files) {
  clear_probe(run.root, files);
  for (const std::string& name : files.names_in(run.root)) {
    const fs::path path = run.root / name;
    if (is_unfinished(name, run) && !is_directory(path, files)) files.remove(path);
  }
  remove_unused_parts(run.model(), files);
  clear_unfinished_checkpoints(run.checkpoints(), files);
}

void remove_earlier_run(const RunDirectory& run, Files& files) {
  const bool is_elsewhere = files.is_link(run.checkpoints());
  if (is_elsewhere && !complete_checkpoints(run.checkpoints(), files).empty()) {
    throw UsageError(
        fmt::format("run.directory: {} is a symbolic link, behind which no checkpoints are "
                    "removed; remove those "
                    "of the earlier run or choose another directory",
                    run.checkpoints().string()));
  }
  remove_checkpoints(run.checkpoints(), files);
  for (const fs::path& path : safetensors_model_files(run.model(), files)) files.remove(path);
  files.remove(run.standardization());
  files.remove(run.tokenizer());
}

void remove_local_checkpoints(const RunDirectory& run, Files& files) {
  if (!is_directory(run.checkpoints(), files)) return;
  for (const std::string& name : files.names_in(run.checkpoints())) {
    if (is_of_rank(name, "")) remove_checkpoints(run.checkpoints() / name, files);
  }
  remove_if_empty(run.checkpoints(), files);
}

void remove_local_checkpoints(const RunDirectory& run, int rank, Files& files) {
  remove_checkpoints(run.local_checkpoints(rank), files);
}

void remove_logs(const RunDirectory& run, Files& files) {
  if (!is_directory(run.logs(), files)) return;
  for (const std::string& name : files.names_in(run.logs())) {
    if (is_of_rank(name, ".log")) files.remove(run.logs() / name);
  }
  remove_if_empty(run.logs(), files);
}

}  // namespace trireme
