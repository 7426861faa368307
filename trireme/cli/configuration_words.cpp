#include "trireme/cli/configuration_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <iterator>

#include "trireme/base/error.h"
#include "trireme/launch/machine.h"

namespace trireme::cli {

ConfigurationWords parse_words(const std::string& command, std::span<const std::string> words) {
  ConfigurationWords parsed;
  for (const std::string& word : words) {
    if (word.find('=') != std::string::npos) {
      parsed.overrides.push_back(word);
    } else if (parsed.file.empty()) {
      parsed.file = word;
    } else {
      throw UsageError(fmt::format(
          "{}: one configuration file and section.key=value are wanted, got \"{}\" as well as "
          "\"{}\"",
          command, word, parsed.file.string()));
    }
  }
  return parsed;
}

Config read_configuration(const std::string& command, const ConfigurationWords& words,
                          const RankEnvironment& environment) {
  const auto require_some = [&](bool is_given) {
    if (is_given || !words.overrides.empty()) return;
    throw UsageError(fmt::format(
        "{}: no configuration; write one with `trireme init linear > run.toml`", command));
  };
  if (words.file != "-") {
    require_some(!words.file.empty());
    return read_config(words.file, words.overrides);
  }
  if (environment.world_size > 1) {
    throw UsageError(fmt::format(
        "{}: - is standard input, which mpirun, srun and others pass to some of the {} ranks only; "
        "name a file that all of them see",
        command, environment.world_size));
  }
  const std::string text(std::istreambuf_iterator<char>(std::cin), {});
  require_some(text.find_first_not_of(" \t\r\n") != std::string::npos);
  return parse_config(text, "stdin", words.overrides);
}

int default_ranks(const Config& config) {
  constexpr std::int64_t kMostRanks = 256;  // of shared memory
  const Config::Training& training = config.training;
  const std::int64_t slices =
      training.virtual_workers > 0 ? training.virtual_workers : training.global_batch;
  return static_cast<int>(std::min({std::int64_t{usable_cores()}, slices, kMostRanks}));
}

int ranks_of_host(const RankEnvironment& environment, int ranks) {
  if (environment.starter == Starter::kNone) return ranks;
  if (environment.local_world_size) return *environment.local_world_size;
  const auto text = process_environment("SLURM_STEP_NUM_NODES");
  const int hosts = text ? std::atoi(text->c_str()) : 0;
  return environment.starter == Starter::kSlurm && hosts > 0
             ? (environment.world_size + hosts - 1) / hosts
             : 1;
}

}  // namespace trireme::cli
