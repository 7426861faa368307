#include "trireme/checkpoint/step_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <exception>
#include <optional>
#include <string>
#include <string_view>

namespace trireme {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kPartial = ".partial";
constexpr std::string_view kManifest = "manifest.json";

// Returns 120 for "step-120". A name of another form is not a checkpoint's.
std::optional<std::int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  if (error != std::errc() || fmt::format("{}", step) != name || step < 0) return std::nullopt;
  return step;
}

bool is_partial(std::string_view name) {
  if (!name.ends_with(kPartial)) return false;
  name.remove_suffix(kPartial.size());
  return step_of(name).has_value();
}

}  // namespace

StepFolder::StepFolder(const fs::path& directory, std::int64_t step, Files& files)
    : directory_(directory), step_(step), files_(files) {}

fs::path StepFolder::path() const {
  return directory_ / fmt::format("{}{}", kPrefix, step_);
}

fs::path StepFolder::partial() const {
  return directory_ / fmt::format("{}{}{}", kPrefix, step_, kPartial);
}

void StepFolder::begin() const {
  make_directories(directory_, files_);
  for (const std::string& name : files_.names_in(directory_)) {
    if (is_partial(name)) files_.remove(directory_ / name);
  }
  files_.make_directory(partial());
}

void StepFolder::publish() const {
  files_.sync_directory(partial());
  const bool replaces = files_.kind_of(path()) != FileKind::kNone;
  if (replaces) {
    files_.exchange(partial(), path());
  } else {
    files_.rename(partial(), path());
  }
  files_.sync_directory(directory_);
  if (replaces) files_.remove(partial());
}

void StepFolder::abandon() const noexcept {
  try {
    files_.remove(partial());
  } catch (const std::exception&) {
    // The next begin() removes it.
  }
}

void StepFolder::prune(int keep) const {
  const std::vector<std::int64_t> steps = steps_in(directory_, files_);
  auto excess = static_cast<std::int64_t>(steps.size()) - keep;
  for (const std::int64_t step : steps) {
    if (excess <= 0) break;
    if (step == step_) continue;
    const StepFolder old(directory_, step, files_);
    files_.rename(old.path(), old.partial());
    files_.sync_directory(directory_);  // before any of its files vanishes
    files_.remove(old.partial());
    --excess;
  }
}

std::vector<std::int64_t> steps_in(const fs::path& directory, Files& files) {
  std::vector<std::int64_t> steps;
  if (files.kind_of(directory) != FileKind::kDirectory) return steps;
  for (const std::string& name : files.names_in(directory)) {
    const auto step = step_of(name);
    if (step && files.kind_of(directory / name / kManifest) == FileKind::kFile) {
      steps.push_back(*step);
    }
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

}  // namespace trireme
