#include "trireme/launch/cgroups.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <sstream>
#include <vector>

namespace trireme {
namespace {

using Folder = std::filesystem::path;

std::string first_line(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "max" and what is not there are no limit; nor is what version 1 has in place of "max".
std::int64_t limit_in(const std::filesystem::path& path) {
  std::istringstream text(first_line(path));
  std::int64_t value = 0;
  constexpr std::int64_t kNone = std::int64_t{1} << 60;
  return text >> value && value > 0 && value < kNone ? value : 0;
}

// Where a controller's limits are in a folder of version 1 and 2.
struct Controller {
  const char* name;
  std::function<std::int64_t(const Folder&)> v1;
  std::function<std::int64_t(const Folder&)> v2;
  std::int64_t least = 0;

  void take(std::int64_t limit) {
    if (limit > 0) least = least == 0 ? limit : std::min(least, limit);
  }
};

bool has_word(const std::string& list, const std::string& word) {
  return ("," + list + ",").find("," + word + ",") != std::string::npos;
}

// From `group` up to the root; of a container the upper ones may not be visible.
void take_limits(Controller& controller, std::string group, const Folder& mounted, bool is_v1) {
  const Folder root = is_v1 ? mounted / controller.name : mounted;
  const auto& limit_of = is_v1 ? controller.v1 : controller.v2;
  for (;; group.resize(group.rfind('/'))) {
    if (group == "/") group.clear();
    controller.take(limit_of(root.string() + group));
    if (group.find('/') == std::string::npos) return;
  }
}

}  // namespace

int cores_of_quota(const std::string& cpu_max) {
  std::istringstream text(cpu_max);
  std::int64_t quota = 0;
  std::int64_t period = 0;
  if (!(text >> quota >> period) || quota <= 0 || period <= 0) return 0;
  return static_cast<int>(std::clamp<std::int64_t>(quota / period, 1, 1 << 20));
}

CgroupLimits limits_of_cgroups(const std::filesystem::path& groups,
                               const std::filesystem::path& mounted) {
  std::vector<Controller> controllers = {
      {"cpu",
       [](const Folder& folder) {
         return cores_of_quota(first_line(folder / "cpu.cfs_quota_us") + " " +
                               first_line(folder / "cpu.cfs_period_us"));
       },
       [](const Folder& folder) { return cores_of_quota(first_line(folder / "cpu.max")); }},
      {"memory", [](const Folder& folder) { return limit_in(folder / "memory.limit_in_bytes"); },
       [](const Folder& folder) { return limit_in(folder / "memory.max"); }},
      {"pids", [](const Folder& folder) { return limit_in(folder / "pids.max"); },
       [](const Folder& folder) { return limit_in(folder / "pids.max"); }}};
  std::ifstream lines(groups);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string list = line.substr(first + 1, second - first - 1);
    for (Controller& controller : controllers) {
      if (!list.empty() && !has_word(list, controller.name)) continue;
      take_limits(controller, line.substr(second + 1), mounted, !list.empty());
    }
  }
  return {.cores = static_cast<int>(controllers[0].least),
          .memory_bytes = controllers[1].least,
          .processes = controllers[2].least};
}

}  // namespace trireme
