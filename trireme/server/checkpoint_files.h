#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace trireme::server {

/// The file that server `shard` of `shards` writes its checkpoint to.
std::filesystem::path checkpoint_file(const std::filesystem::path& folder, int shard, int shards);

/// The files of the last checkpoint in a folder, whatever number of servers wrote it: the newest
/// complete set. Throws DataError if there is none.
std::vector<std::string> checkpoint_files(const std::filesystem::path& folder);

}  // namespace trireme::server
