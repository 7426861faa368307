#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace trireme {

/// What the control groups of a process allow: the smallest limit from its group up to the root.
/// 0: no limit.
struct CgroupLimits {
  int cores = 0;  ///< of processor time; rounded down, but at least 1
  std::int64_t memory_bytes = 0;
  std::int64_t processes = 0;  ///< threads included
};

/// Of this process. `groups`: a list of groups as in /proc/PID/cgroup. `mounted`: the folder where
/// they are, of version 2 or one folder for each controller of version 1.
CgroupLimits limits_of_cgroups(const std::filesystem::path& groups = "/proc/self/cgroup",
                               const std::filesystem::path& mounted = "/sys/fs/cgroup");

/// Cores that a quota allows, or 0 for no limit. `cpu_max`: the text of a cgroup v2 file of that
/// name, such as "150000 100000". Rounded down, but at least 1.
int cores_of_quota(const std::string& cpu_max);

}  // namespace trireme
