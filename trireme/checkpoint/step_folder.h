#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>

#include "trireme/base/files.h"

namespace trireme {

/// The folder of one checkpoint inside the directory of all. It is written under a name that
/// readers ignore and made visible by one rename. One process at a time may call the functions that
/// change files; all of them throw DataError, which names the path and the reason. Of a folder,
/// only the files are removed that a checkpoint consists of, and the folder if it is empty then;
/// symbolic links are not followed.
class StepFolder {
 public:
  StepFolder(const std::filesystem::path& directory, std::int64_t step, Files& files);

  std::filesystem::path path() const;      ///< step-N
  std::filesystem::path partial() const;   ///< step-N.partial
  std::filesystem::path replaced() const;  ///< step-N.replaced: step-N, until a newer one is there

  /// Removes what earlier writers left unfinished and creates an empty partial().
  void begin() const;
  /// Renames partial(), whose files must be synced, to path(). An older folder of that name is
  /// renamed to replaced() before and removed afterwards.
  void publish() const;
  /// Removes partial(), as far as possible.
  void abandon() const noexcept;
  /// Removes the checkpoint.
  void remove() const;

 private:
  std::filesystem::path directory_;
  std::int64_t step_;
  Files& files_;
};

/// Returns the complete checkpoints in `directory` by step; none if it does not exist.
std::map<std::int64_t, std::filesystem::path> complete_checkpoints(
    const std::filesystem::path& directory, Files& files);

/// Removes the checkpoints of later steps than `step`, which a run had made before it went on from
/// that one.
void remove_later_checkpoints(const std::filesystem::path& directory, std::int64_t step,
                              Files& files);

/// Removes what writers that were killed have left in `directory`, and completes what they have
/// begun.
void clear_unfinished_checkpoints(const std::filesystem::path& directory, Files& files);

/// Returns 120 for "step-120", nothing for a name of another form.
std::optional<std::int64_t> step_of_folder(std::string_view name);

}  // namespace trireme
