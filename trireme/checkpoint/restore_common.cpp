#include "trireme/checkpoint/restore_common.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <sstream>

#include "trireme/base/error.h"
#include "trireme/base/host_name.h"
#include "trireme/base/sha256.h"
#include "trireme/checkpoint/agreement.h"
#include "trireme/checkpoint/step_folder.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

using Steps = std::set<std::int64_t, std::greater<>>;

// What one rank sees in its directory.
struct View {
  std::string host;
  Steps steps;
};

std::vector<View> views_of(const fs::path& directory, Communicator& world, Files& files) {
  const std::vector<std::string> texts = agree(world, [&] {
    std::string text = host_name();
    for (const auto& [step, path] : complete_checkpoints(directory, files)) {
      text += fmt::format("\n{}", step);
    }
    return text;
  });
  std::vector<View> views;
  for (const std::string& text : texts) {
    std::istringstream in(text);
    View view;
    std::getline(in, view.host);
    for (std::int64_t step = 0; in >> step;) view.steps.insert(step);
    views.push_back(std::move(view));
  }
  return views;
}

std::string text_of(const Steps& steps) {
  constexpr std::size_t kShown = 8;
  if (steps.empty()) return "none";
  std::vector<std::int64_t> shown(steps.begin(), steps.end());
  shown.resize(std::min(shown.size(), kShown));
  return fmt::format("{}{}", fmt::join(shown, ", "),
                     steps.size() > kShown ? ", and older ones" : "");
}

Steps common_of(const std::vector<View>& views) {
  Steps common = views.front().steps;
  std::erase_if(common, [&](std::int64_t step) {
    return std::ranges::any_of(views, [&](const View& v) { return !v.steps.contains(step); });
  });
  return common;
}

Steps all_of(const std::vector<View>& views) {
  Steps all;
  for (const View& view : views) all.insert(view.steps.begin(), view.steps.end());
  return all;
}

// "rank 2", "ranks 2, 3 on host b and rank 4 on host c"; the host only where there are several.
std::string named(const std::vector<View>& views,
                  const std::function<bool(std::size_t rank)>& is_meant) {
  constexpr std::size_t kShown = 8;
  std::map<std::string, std::vector<std::size_t>> by_host;
  bool has_several_hosts = false;
  for (std::size_t rank = 0; rank < views.size(); ++rank) {
    if (is_meant(rank)) by_host[views[rank].host].push_back(rank);
    has_several_hosts = has_several_hosts || views[rank].host != views.front().host;
  }
  std::vector<std::string> texts;
  for (auto& [host, ranks] : by_host) {
    const std::size_t more = ranks.size() - std::min(ranks.size(), kShown);
    ranks.resize(ranks.size() - more);
    texts.push_back(fmt::format("{} {}{}{}", ranks.size() == 1 ? "rank" : "ranks",
                                fmt::join(ranks, ", "),
                                more > 0 ? fmt::format(" and {} more", more) : "",
                                has_several_hosts ? " on host " + host : ""));
  }
  return fmt::format("{}", fmt::join(texts, " and "));
}

std::string lacking(const std::vector<View>& views, std::int64_t step) {
  return named(views, [&](std::size_t rank) { return !views[rank].steps.contains(step); });
}

// Which ranks have what, the same steps together.
std::string described(const std::vector<View>& views) {
  std::vector<std::string> texts;
  std::set<Steps> known;
  for (const View& view : views) {
    if (!known.insert(view.steps).second) continue;
    const auto is_like = [&](std::size_t rank) { return views[rank].steps == view.steps; };
    texts.push_back(fmt::format("{}: {}", named(views, is_like), text_of(view.steps)));
  }
  return fmt::format("{}", fmt::join(texts, "; "));
}

constexpr const char* kCopy = "copy that folder to each host, or resume on the hosts that have it";

[[noreturn]] void refuse_step(const fs::path& directory, std::int64_t step,
                              const std::vector<View>& views) {
  const Steps common = common_of(views);
  if (!all_of(views).contains(step)) {
    throw UsageError(fmt::format("{}: no checkpoint of step {}, only of: {}", directory.string(),
                                 step, text_of(common.empty() ? all_of(views) : common)));
  }
  throw UsageError(fmt::format("{}: no checkpoint of step {} on {}; all ranks have: {}; {}",
                               directory.string(), step, lacking(views, step), text_of(common),
                               kCopy));
}

Steps candidates(const fs::path& directory, std::optional<std::int64_t> step,
                 const std::vector<View>& views) {
  Steps common = common_of(views);
  if (step) {
    if (!common.contains(*step)) refuse_step(directory, *step, views);
    return {*step};
  }
  if (common.empty()) {
    throw DataError(fmt::format(
        "{}: the ranks have no checkpoint in common; steps on {}; copy one folder to each host",
        directory.string(), described(views)));
  }
  return common;
}

fs::path folder_of(const fs::path& directory, std::int64_t step, Files& files) {
  const auto checkpoints = complete_checkpoints(directory, files);
  const auto found = checkpoints.find(step);
  if (found != checkpoints.end()) return found->second;
  throw DataError(fmt::format("{}: the checkpoint of step {} is gone", directory.string(), step));
}

// Throws DataError on every rank unless the checkpoint is the same on all.
void require_same_manifest(const fs::path& directory, std::int64_t step,
                           const std::vector<View>& views, Communicator& world, Files& files) {
  const std::vector<std::string> digests = agree(world, [&] {
    const fs::path folder = folder_of(directory, step, files);
    require_file(folder / "manifest.json", files);
    return sha256(read_file(folder / "manifest.json", files));
  });
  const std::string others =
      named(views, [&](std::size_t rank) { return digests[rank] != digests.front(); });
  if (others.empty()) return;
  throw DataError(
      fmt::format("{}: the checkpoint of step {} is another one on {} than on rank 0; copy the one "
                  "that is meant to each host",
                  directory.string(), step, others));
}

}  // namespace

std::optional<CommonCheckpoint> restore_common(const fs::path& directory,
                                               std::optional<std::int64_t> step,
                                               Communicator& world,
                                               const std::function<void(const fs::path&)>& load,
                                               Files& files) {
  const std::vector<View> views = views_of(directory, world, files);
  const Steps all = all_of(views);
  if (all.empty()) return std::nullopt;
  const Steps steps = candidates(directory, step, views);
  std::vector<std::string> passed_over;
  if (!step && *all.begin() != *steps.begin()) {
    passed_over.push_back(fmt::format("{}: {} has no checkpoint of step {}; {}", directory.string(),
                                      lacking(views, *all.begin()), *all.begin(), kCopy));
  }
  std::vector<std::string> damaged;
  for (const std::int64_t candidate : steps) {
    try {
      require_same_manifest(directory, candidate, views, world, files);
      agree(world, [&] {
        load(folder_of(directory, candidate, files));
        return std::string();
      });
      std::ranges::move(damaged, std::back_inserter(passed_over));
      return CommonCheckpoint{.step = candidate, .passed_over = std::move(passed_over)};
    } catch (const DataError& error) {
      damaged.emplace_back(error.what());
    }
  }
  if (step) throw DataError(fmt::format("{}; choose another step", damaged.front()));
  throw DataError(fmt::format(
      "{}: no checkpoint is whole (of {}); the newest: {}; the run must be started anew",
      directory.string(), steps.size(), damaged.front()));
}

}  // namespace trireme
