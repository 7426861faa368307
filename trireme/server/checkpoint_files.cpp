#include "trireme/server/checkpoint_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <system_error>

#include "trireme/base/error.h"

namespace trireme::server {

std::filesystem::path checkpoint_file(const std::filesystem::path& folder, int shard, int shards) {
  return folder / fmt::format("shard-{}-of-{}.safetensors", shard, shards);
}

std::vector<std::string> checkpoint_files(const std::filesystem::path& folder) {
  using Time = std::filesystem::file_time_type;
  struct Set {
    std::vector<std::string> files;
    Time oldest = Time::max();
  };
  std::map<int, Set> sets;  // by the number of servers
  std::error_code error;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error)) {
    int shard = 0;
    int shards = 0;
    const std::string name = at->path().filename().string();
    if (std::sscanf(name.c_str(), "shard-%d-of-%d.safetensors", &shard, &shards) != 2 ||
        at->path() != checkpoint_file(folder, shard, shards)) {
      continue;
    }
    Set& set = sets[shards];
    set.files.push_back(at->path().string());
    set.oldest = std::min(set.oldest, at->last_write_time());
  }
  if (error) throw DataError(fmt::format("{}: {}", folder.string(), error.message()));
  std::erase_if(sets, [](const auto& set) { return std::ssize(set.second.files) != set.first; });
  const auto newest =
      std::ranges::max_element(sets, {}, [](const auto& set) { return set.second.oldest; });
  if (newest == sets.end()) {
    throw DataError(fmt::format(
        "{}: holds no complete checkpoint of servers: shard-0-of-N.safetensors and the others",
        folder.string()));
  }
  std::ranges::sort(newest->second.files);
  return newest->second.files;
}

}  // namespace trireme::server
