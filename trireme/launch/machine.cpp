#include "trireme/launch/machine.h"

#include <hwloc.h>
#include <hwy/targets.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <sstream>
#include <thread>

namespace trireme {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The value of the line "name: value" in a file of such lines, without blanks around it.
std::string field(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos ||
        line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1) != name) {
      continue;
    }
    const std::size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? "" : line.substr(start);
  }
  return "";
}

std::int64_t kilobytes(const std::string& name) {
  std::istringstream text(field("/proc/meminfo", name));
  std::int64_t value = 0;
  text >> value;
  return value * 1024;
}

// "always [madvise] never" -> "madvise".
std::string chosen(const std::string& line) {
  const std::size_t open = line.find('[');
  const std::size_t close = line.find(']');
  if (open == std::string::npos || close == std::string::npos) return "";
  return line.substr(open + 1, close - open - 1);
}

bool try_memfd() {
  const int fd = ::memfd_create("trireme", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return false;
  const bool works = ::ftruncate(fd, 4096) == 0;
  ::close(fd);
  return works;
}

std::vector<std::string> simd_targets() {
  std::vector<std::string> names;
  const std::int64_t supported = hwy::SupportedTargets();
  // The better a target, the lower its bit.
  for (std::int64_t bit = 1; bit > 0 && bit <= HWY_SCALAR; bit <<= 1) {
    if ((supported & bit) != 0) names.push_back(hwy::TargetName(bit));
  }
  return names;
}

struct Topology {
  hwloc_topology_t handle = nullptr;

  Topology() {
    if (hwloc_topology_init(&handle) != 0) handle = nullptr;
    if (handle != nullptr && hwloc_topology_load(handle) != 0) {
      hwloc_topology_destroy(handle);
      handle = nullptr;
    }
  }
  ~Topology() {
    if (handle != nullptr) hwloc_topology_destroy(handle);
  }
  Topology(const Topology&) = delete;
  Topology& operator=(const Topology&) = delete;

  int count(hwloc_obj_type_t type) const {
    return handle == nullptr ? 0 : std::max(0, hwloc_get_nbobjs_by_type(handle, type));
  }

  std::vector<Cache> caches_of_first_core() const {
    std::vector<Cache> caches;
    hwloc_obj_t object =
        handle == nullptr ? nullptr : hwloc_get_obj_by_type(handle, HWLOC_OBJ_PU, 0);
    for (; object != nullptr; object = object->parent) {
      if (!hwloc_obj_type_is_dcache(object->type)) continue;
      const int sharing =
          hwloc_get_nbobjs_inside_cpuset_by_type(handle, object->cpuset, HWLOC_OBJ_CORE);
      caches.push_back({static_cast<int>(object->attr->cache.depth),
                        static_cast<std::int64_t>(object->attr->cache.size), sharing});
    }
    return caches;
  }
};

}  // namespace

std::vector<int> cores_of_affinity(pid_t process) {
  std::vector<int> cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(process, sizeof set, &set) == 0) {
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(core, &set)) cores.push_back(core);
    }
  }
  return cores;
}

void run_on_cores(std::span<const int> cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int core : cores) CPU_SET(core, &set);
  ::sched_setaffinity(0, sizeof set, &set);
}

int usable_cores() {
  int cores = static_cast<int>(cores_of_affinity().size());
  if (cores == 0) cores = static_cast<int>(std::thread::hardware_concurrency());
  if (const int quota = limits_of_cgroups().cores; quota > 0) cores = std::min(cores, quota);
  return std::max(1, cores);
}

Machine inspect_machine() {
  const Topology topology;
  Machine machine;
  machine.cores = topology.count(HWLOC_OBJ_CORE);
  machine.hardware_threads = topology.count(HWLOC_OBJ_PU);
  machine.usable = usable_cores();
  machine.cgroups = limits_of_cgroups();
  machine.cpu_model = field("/proc/cpuinfo", "model name");
  machine.simd_targets = simd_targets();
  machine.caches = topology.caches_of_first_core();
  machine.numa_nodes = topology.count(HWLOC_OBJ_NUMANODE);
  machine.memory_bytes = kilobytes("MemTotal");
  machine.available_memory_bytes = kilobytes("MemAvailable");
  const std::string huge = "/sys/kernel/mm/transparent_hugepage/";
  machine.transparent_huge_pages = chosen(first_line(huge + "enabled"));
  machine.shared_memory_huge_pages = chosen(first_line(huge + "shmem_enabled"));
  machine.memfd_works = try_memfd();
  return machine;
}

}  // namespace trireme
