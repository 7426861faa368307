#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "trireme/config/config.h"
#include "trireme/launch/environment.h"

namespace trireme::cli {

/// The part of a command line that is a configuration: FILE.toml and section.key=value.
struct ConfigurationWords {
  std::filesystem::path file;  ///< empty: none was given
  std::vector<std::string> overrides;
};

/// Throws UsageError for a second file. `command` is the name of the command, for the error.
ConfigurationWords parse_words(const std::string& command, std::span<const std::string> words);

/// Returns the number of cores of this process, but no more than there are virtual workers.
int default_ranks(const Config& config);

/// Returns how many of `ranks` share the cores of this host: the launcher's number, or all of them.
int ranks_of_host(const RankEnvironment& environment, int ranks);

/// Sets the values that depend on the number of ranks, so that a run that resumes on another number
/// is the same run.
void resolve(Config::Training& training, int ranks, int ranks_of_host);

}  // namespace trireme::cli
