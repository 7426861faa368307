#pragma once

#include <cstdint>
#include <optional>

namespace trireme {

/// The limits of this process that `ulimit` sets and ranks inherit, as they hold now (soft). None:
/// no limit.
struct ProcessLimits {
  std::optional<std::int64_t> open_files;     ///< ulimit -n
  std::optional<std::int64_t> processes;      ///< ulimit -u: of this user, threads included
  std::optional<std::int64_t> address_space;  ///< ulimit -v, in bytes
  std::optional<std::int64_t> file_size;      ///< ulimit -f, in bytes
  std::optional<std::int64_t> locked_memory;  ///< ulimit -l, in bytes
};

ProcessLimits limits_of_process();

}  // namespace trireme
