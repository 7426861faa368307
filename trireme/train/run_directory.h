#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "trireme/base/files.h"

namespace trireme {

/// Where one run's files lie.
struct RunDirectory {
  std::filesystem::path root;

  std::filesystem::path config() const { return root / "config.toml"; }
  std::filesystem::path metrics() const { return root / "metrics.jsonl"; }
  /// In one file or in several with an index (formats/safetensors_model.h).
  std::filesystem::path model() const { return root / "model.safetensors"; }
  std::filesystem::path standardization() const { return root / "standardization.safetensors"; }
  /// Of tokens: what tokenizer_from_json() takes.
  std::filesystem::path tokenizer() const { return root / "tokenizer.json"; }
  std::filesystem::path logs() const { return root / "logs"; }
  std::filesystem::path checkpoints() const { return root / "checkpoints"; }
  /// Checkpoints of the state that only this rank has.
  std::filesystem::path local_checkpoints(int rank) const {
    return checkpoints() / ("rank-" + std::to_string(rank));
  }
  /// Locked while a run writes here (RunLock).
  std::filesystem::path lock() const { return root / "trireme.lock"; }
};

/// The first line of a run's config.toml, by which its directory is known.
inline constexpr std::string_view kRunConfigHeader =
    "# The resolved configuration of a run, written by trireme.\n";

/// Throws UsageError unless the directory holds a run, or nothing but what a run that ended before
/// its first step has left, or does not exist.
void require_own_directory(const RunDirectory& run, Files& files = real_files());

/// Throws DataError, which says what failed, unless files and folders in the directory can be
/// written, synced, renamed and removed as a run does it, and if a name that the run will write is
/// a FIFO, a device or a directory.
void probe_directory(const RunDirectory& run, Files& files = real_files());

// Each of these removes only files that a run writes, by their names, and follows no symbolic link.

/// Removes what runs that were killed have left half written.
void remove_unfinished(const RunDirectory& run, Files& files = real_files());
/// Removes the model of an earlier run and its checkpoints, but not those of single ranks. Throws
/// UsageError if the checkpoints lie behind a symbolic link.
void remove_earlier_run(const RunDirectory& run, Files& files = real_files());
/// Removes the checkpoints of every single rank.
void remove_local_checkpoints(const RunDirectory& run, Files& files = real_files());
/// Removes the checkpoints of one rank.
void remove_local_checkpoints(const RunDirectory& run, int rank, Files& files = real_files());
/// Removes the logs.
void remove_logs(const RunDirectory& run, Files& files = real_files());

}  // namespace trireme
