#include "trireme/checkpoint/step_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kPartial = ".partial";
constexpr std::string_view kManifest = "manifest.json";

[[noreturn]] void fail(const fs::path& path, std::string_view verb, const std::string& reason) {
  throw DataError(fmt::format("{}: cannot {}: {}", path.string(), verb, reason));
}

void require(const std::error_code& error, const fs::path& path, std::string_view verb) {
  if (error) fail(path, verb, error.message());
}

void remove_tree(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  require(error, path, "remove");
}

void rename_folder(const fs::path& from, const fs::path& to, unsigned flags) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) != 0) {
    fail(to, fmt::format("rename {} to", from.string()), std::strerror(errno));
  }
}

void sync_folder(const fs::path& path) {
  const FileDescriptor folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.is_open() || ::fsync(folder.fd()) != 0) fail(path, "sync", std::strerror(errno));
}

// "step-120" is 120; what is not written that way belongs to somebody else.
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

std::vector<std::string> names_in(const fs::path& directory) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  require(error, directory, "list");
  return names;
}

}  // namespace

StepFolder::StepFolder(const fs::path& directory, std::int64_t step)
    : directory_(directory), step_(step) {}

fs::path StepFolder::path() const {
  return directory_ / fmt::format("{}{}", kPrefix, step_);
}

fs::path StepFolder::partial() const {
  return directory_ / fmt::format("{}{}{}", kPrefix, step_, kPartial);
}

void StepFolder::begin() const {
  std::error_code error;
  fs::create_directories(directory_, error);
  require(error, directory_, "create");
  for (const std::string& name : names_in(directory_)) {
    if (is_partial(name)) remove_tree(directory_ / name);
  }
  fs::create_directory(partial(), error);
  require(error, partial(), "create");
}

void StepFolder::publish() const {
  sync_folder(partial());
  const bool replaces = fs::exists(path());
  rename_folder(partial(), path(), replaces ? RENAME_EXCHANGE : RENAME_NOREPLACE);
  sync_folder(directory_);
  if (replaces) remove_tree(partial());
}

void StepFolder::abandon() const noexcept {
  std::error_code ignored;
  fs::remove_all(partial(), ignored);
}

void StepFolder::prune(int keep) const {
  std::vector<std::int64_t> steps = steps_in(directory_);
  auto excess = static_cast<std::int64_t>(steps.size()) - keep;
  for (const std::int64_t step : steps) {
    if (excess <= 0) break;
    if (step == step_) continue;
    const StepFolder old(directory_, step);
    rename_folder(old.path(), old.partial(), 0);
    remove_tree(old.partial());
    --excess;
  }
}

std::vector<std::int64_t> steps_in(const fs::path& directory) {
  std::vector<std::int64_t> steps;
  if (!fs::exists(directory)) return steps;
  for (const std::string& name : names_in(directory)) {
    const auto step = step_of(name);
    if (step && fs::exists(directory / name / kManifest)) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

}  // namespace trireme
