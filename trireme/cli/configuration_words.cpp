#include "trireme/cli/configuration_words.h"

#include <fmt/format.h>

#include <algorithm>

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

int default_ranks(const Config& config) {
  const std::int64_t workers = config.training.virtual_workers;
  return workers == 0 ? usable_cores()
                      : static_cast<int>(std::min<std::int64_t>(workers, usable_cores()));
}

int ranks_of_host(const RankEnvironment& environment, int ranks) {
  return environment.starter == Starter::kNone ? ranks : environment.local_world_size.value_or(1);
}

void resolve(Config::Training& training, int ranks, int ranks_of_host) {
  if (training.virtual_workers == 0) training.virtual_workers = ranks;
  if (training.threads == 0) training.threads = std::max(1, usable_cores() / ranks_of_host);
}

}  // namespace trireme::cli
