#include "trireme/launch/limits.h"

#include <sys/resource.h>

namespace trireme {
namespace {

std::optional<std::int64_t> limit_of(decltype(RLIMIT_NOFILE) resource) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  return static_cast<std::int64_t>(limit.rlim_cur);
}

}  // namespace

ProcessLimits limits_of_process() {
  return {.open_files = limit_of(RLIMIT_NOFILE),
          .processes = limit_of(RLIMIT_NPROC),
          .address_space = limit_of(RLIMIT_AS),
          .file_size = limit_of(RLIMIT_FSIZE),
          .locked_memory = limit_of(RLIMIT_MEMLOCK)};
}

}  // namespace trireme
