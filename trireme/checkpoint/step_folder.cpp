#include "trireme/checkpoint/step_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <exception>
#include <string>
#include <vector>

#include "trireme/base/atomic_file.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kPartial = ".partial";
constexpr std::string_view kReplaced = ".replaced";
constexpr std::string_view kManifest = "manifest.json";
constexpr std::string_view kTensors = ".safetensors";

// Returns 120 for "step-120.partial" with the ending ".partial".
std::optional<std::int64_t> step_of(std::string_view name, std::string_view ending) {
  if (!name.ends_with(ending)) return std::nullopt;
  name.remove_suffix(ending.size());
  return step_of_folder(name);
}

// "rank-3.safetensors"
bool is_tensor_file(std::string_view name) {
  constexpr std::string_view kRank = "rank-";
  if (!name.starts_with(kRank) || !name.ends_with(kTensors)) return false;
  name.remove_prefix(kRank.size());
  name.remove_suffix(std::min(name.size(), kTensors.size()));
  return !name.empty() && name.find_first_not_of("0123456789") == std::string_view::npos;
}

// A file of a checkpoint, or what is left of it if its writer was killed.
bool is_part(const std::string& name) {
  const std::string target = name.substr(0, name.rfind(kPartial));
  const bool is_of_checkpoint = target == kManifest || is_tensor_file(target);
  return is_of_checkpoint && (target == name || is_left_by_atomic_file(name, target));
}

bool is_complete(const fs::path& folder, Files& files) {
  return files.kind_of(folder / kManifest) == FileKind::kFile;
}

void remove_folder(const fs::path& folder, Files& files) {
  if (files.is_link(folder) || files.kind_of(folder) != FileKind::kDirectory) return;
  bool has_others = false;
  for (const std::string& name : files.names_in(folder)) {
    const fs::path path = folder / name;
    const auto is_directory = [&] {
      return !files.is_link(path) && files.kind_of(path) == FileKind::kDirectory;
    };
    if (is_part(name) && !is_directory()) {
      files.remove(path);
    } else {
      has_others = true;
    }
  }
  if (!has_others) files.remove(folder);
}

}  // namespace

std::optional<std::int64_t> step_of_folder(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  if (error != std::errc() || fmt::format("{}", step) != name || step < 0) return std::nullopt;
  return step;
}

StepFolder::StepFolder(const fs::path& directory, std::int64_t step, Files& files)
    : directory_(directory), step_(step), files_(files) {}

fs::path StepFolder::path() const {
  return directory_ / fmt::format("{}{}", kPrefix, step_);
}

fs::path StepFolder::partial() const {
  return directory_ / fmt::format("{}{}{}", kPrefix, step_, kPartial);
}

fs::path StepFolder::replaced() const {
  return directory_ / fmt::format("{}{}{}", kPrefix, step_, kReplaced);
}

void StepFolder::begin() const {
  make_directories(directory_, files_);
  clear_unfinished_checkpoints(directory_, files_);
  files_.make_directory(partial());
}

void StepFolder::publish() const {
  files_.sync_directory(partial());
  const bool replaces = files_.kind_of(path()) != FileKind::kNone;
  if (replaces) {
    files_.rename(path(), replaced());
    files_.sync_directory(directory_);
  }
  files_.rename(partial(), path());
  files_.sync_directory(directory_);
  if (replaces) remove_folder(replaced(), files_);
}

void StepFolder::abandon() const noexcept {
  try {
    remove_folder(partial(), files_);
  } catch (const std::exception&) {
    // The next begin() removes it.
  }
}

void StepFolder::remove() const {
  if (files_.is_link(path()) || files_.kind_of(path()) != FileKind::kDirectory) return;
  files_.rename(path(), partial());
  files_.sync_directory(directory_);  // before any of its files vanishes
  remove_folder(partial(), files_);
}

std::map<std::int64_t, fs::path> complete_checkpoints(const fs::path& directory, Files& files) {
  std::map<std::int64_t, fs::path> found;
  if (files.kind_of(directory) != FileKind::kDirectory) return found;
  for (const std::string& name : files.names_in(directory)) {
    const auto step = step_of_folder(name);
    const auto old_step = step_of(name, kReplaced);
    if (!step && !old_step) continue;
    if (!is_complete(directory / name, files)) continue;
    if (step) found[*step] = directory / name;
    if (old_step) found.try_emplace(*old_step, directory / name);
  }
  return found;
}

void remove_later_checkpoints(const fs::path& directory, std::int64_t step, Files& files) {
  for (const auto& [found, path] : complete_checkpoints(directory, files)) {
    if (found > step) StepFolder(directory, found, files).remove();
  }
}

void clear_unfinished_checkpoints(const fs::path& directory, Files& files) {
  if (files.kind_of(directory) != FileKind::kDirectory) return;
  for (const std::string& name : files.names_in(directory)) {
    if (step_of(name, kPartial)) remove_folder(directory / name, files);
    const auto step = step_of(name, kReplaced);
    if (!step) continue;
    const fs::path path = StepFolder(directory, *step, files).path();
    if (is_complete(path, files)) {
      remove_folder(directory / name, files);
    } else if (files.kind_of(path) == FileKind::kNone) {
      files.rename(directory / name, path);
      files.sync_directory(directory);
    }
  }
}

}  // namespace trireme
