#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace trireme {

/// The folder of one checkpoint inside the folder of all: written under a name that no reader
/// looks at, and made visible in one rename. One process at a time may call what changes files, all
/// of which throws DataError naming the path and the reason.
class StepFolder {
 public:
  StepFolder(const std::filesystem::path& directory, std::int64_t step);

  std::filesystem::path path() const;     ///< step-N
  std::filesystem::path partial() const;  ///< step-N.partial

  /// Removes what earlier writers left unfinished and makes an empty partial().
  void begin() const;
  /// partial(), whose files are synced, becomes path(); one of that name vanishes.
  void publish() const;
  /// Removes partial(), as far as possible.
  void abandon() const noexcept;
  /// Removes the checkpoints of the lowest steps until `keep` are left, but never this one.
  void prune(int keep) const;

 private:
  std::filesystem::path directory_;
  std::int64_t step_;
};

/// The steps of the complete checkpoints in `directory`, ascending; none if there is no such
/// folder.
std::vector<std::int64_t> steps_in(const std::filesystem::path& directory);

}  // namespace trireme
