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
  std::filesystem::path file;  ///< "-": standard input; empty: none was given
  std::vector<std::string> overrides;
};

/// Throws UsageError for a second file. `command` is the name of the command, for the error.
ConfigurationWords parse_words(const std::string& command, std::span<const std::string> words);

/// Reads what the words name: a file, standard input for "-", or only the overrides. Throws what
/// read_config() throws, and UsageError if the words and standard input say nothing, or if
/// `environment` is that of one of several ranks, which have no standard input of their own.
Config read_configuration(const std::string& command, const ConfigurationWords& words,
                          const RankEnvironment& environment);

/// Returns the number of cores of this process, but no more than there are virtual workers or,
/// without a number of them, samples in a step, and no more than a host may have.
int default_ranks(const Config& config);

/// Returns how many of `ranks` are on this host, as far as the launcher's variables say: without a
/// launcher all of them.
int ranks_of_host(const RankEnvironment& environment, int ranks);

}  // namespace trireme::cli
