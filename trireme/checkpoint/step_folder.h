#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "trireme/base/files.h"

namespace trireme {

/// The folder of one checkpoint inside the directory of all. It is written under a name that
/// readers ignore and made visible by one rename. One process at a time may call the functions that
/// change files; all of them throw DataError, which names the path and the reason.
class StepFolder {
 public:
  StepFolder(const std::filesystem::path& directory, std::int64_t step, Files& files);

  std::filesystem::path path() const;     ///< step-N
  std::filesystem::path partial() const;  ///< step-N.partial

  /// Removes what earlier writers left unfinished and creates an empty partial().
  void begin() const;
  /// Renames partial(), whose files must be synced, to path(). An older folder of that name
  /// vanishes.
  void publish() const;
  /// Removes partial(), as far as possible.
  void abandon() const noexcept;
  /// Removes the checkpoints of the lowest steps until `keep` are left, but never this one.
  void prune(int keep) const;

 private:
  std::filesystem::path directory_;
  std::int64_t step_;
  Files& files_;
};

/// Returns the steps of the complete checkpoints in `directory`, ascending; none if it does not
/// exist.
std::vector<std::int64_t> steps_in(const std::filesystem::path& directory, Files& files);

}  // namespace trireme
