#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "trireme/config/config.h"
#include "trireme/launch/environment.h"

namespace trireme::cli {

/// What stands on a command line for a configuration: FILE.toml and section.key=value.
struct ConfigurationWords {
  std::filesystem::path file;  ///< empty: none was named
  std::vector<std::string> overrides;
};

/// Throws UsageError for a second file. `command`: the one called, for its message.
ConfigurationWords parse_words(const std::string& command, std::span<const std::string> words);

/// One rank a core, and no more than there is work for.
int default_ranks(const Config& config);

/// How many of `ranks` share the cores of this host: all, or as many as whoever started them says.
int ranks_of_host(const RankEnvironment& environment, int ranks);

/// Fills in what depends on the ranks, so that resuming on others is the same run.
void resolve(Config::Training& training, int ranks, int ranks_of_host);

}  // namespace trireme::cli
