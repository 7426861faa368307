#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace trireme::cli {

/// What a folder offers to runs that write there.
struct FolderCheck {
  std::filesystem::path folder;  ///< absolute
  std::string file_system;       ///< "ext4", "nfs4", "fuse.sshfs"; empty if the system does not say
  std::int64_t free_bytes = 0;   ///< for this user
  double sync_seconds = 0;       ///< to write 4 KiB and sync them
  bool has_locks = false;        ///< a lock keeps another run away
  std::string trouble;           ///< why no run can write there; empty if one can
};

/// Writes, syncs, renames, locks and removes small files in `folder`, as a run does.
FolderCheck check_folder(const std::filesystem::path& folder);

/// The type of the file system at `path`, from the text of /proc/self/mountinfo.
std::string file_system_of(const std::filesystem::path& path, const std::string& mounts);

}  // namespace trireme::cli
