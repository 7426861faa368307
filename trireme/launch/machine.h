#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace trireme {

/// Cores this process may use: its affinity, and no more than a cgroup's quota of processor time
/// gives. At least 1.
int usable_cores();

/// The numbers of the cores in this process's affinity, ascending.
std::vector<int> cores_of_affinity();

/// Cores that a cgroup quota allows, or 0 for no limit. `cpu_max`: the text of a cgroup v2 file of
/// that name, such as "150000 100000"; a part of a core counts as none, but 1 is the least.
int cores_of_quota(const std::string& cpu_max);

/// A level of cache as one core sees it.
struct Cache {
  int level = 0;
  std::int64_t bytes = 0;
  int cores_sharing = 0;
};

/// What this machine offers, for `trireme doctor`.
struct Machine {
  int cores = 0;  ///< physical
  int hardware_threads = 0;
  int usable = 0;  ///< usable_cores()
  std::string cpu_model;
  std::vector<std::string> simd_targets;  ///< Highway's names, best first: those it would choose
  std::vector<Cache> caches;              ///< data caches of the first core, smallest first
  int numa_nodes = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t available_memory_bytes = 0;
  std::string transparent_huge_pages;    ///< "always", "madvise", "never" or ""
  std::string shared_memory_huge_pages;  ///< the same for memfd memory, "advise" included
  bool memfd_works = false;              ///< what the shared world is made of
};

Machine inspect_machine();

}  // namespace trireme
