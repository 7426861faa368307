#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "trireme/launch/cgroups.h"

namespace trireme {

/// The number of cores that this process may use: those of its affinity, limited by the cgroup's
/// quota of processor time. At least 1.
int usable_cores();

/// The numbers of the cores in the affinity of a process, ascending; 0: of this one. Empty if the
/// system does not say.
std::vector<int> cores_of_affinity(pid_t process = 0);

/// Binds the calling thread, and threads that it starts from then on, to `cores`.
void run_on_cores(std::span<const int> cores);

/// One level of a core's cache.
struct Cache {
  int level = 0;
  std::int64_t bytes = 0;
  int cores_sharing = 0;
};

/// The properties of this machine that `trireme doctor` shows.
struct Machine {
  int cores = 0;  ///< physical
  int hardware_threads = 0;
  int usable = 0;  ///< usable_cores()
  CgroupLimits cgroups;
  std::string cpu_model;
  std::vector<std::string> simd_targets;  ///< Highway's names, the best first
  std::vector<Cache> caches;              ///< data caches of the first core, smallest first
  int numa_nodes = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t available_memory_bytes = 0;
  std::string transparent_huge_pages;    ///< "always", "madvise", "never" or ""
  std::string shared_memory_huge_pages;  ///< the same for memfd memory, "advise" included
  bool memfd_works = false;              ///< the shared world needs it
};

Machine inspect_machine();

}  // namespace trireme
