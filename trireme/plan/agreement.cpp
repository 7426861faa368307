#include "trireme/plan/agreement.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "trireme/base/error.h"
#include "trireme/base/version.h"
#include "trireme/comm/objects.h"
#include "trireme/config/key.h"

namespace trireme::plan {

namespace {

using Values = std::map<std::string, std::string>;

// What all ranks must have in common, as TOML. Keys that nothing uses count as well: whether a key
// is used follows from the others.
Values common_values(const Config& config) {
  Config copy = config;
  Values values{{"the version of trireme", version()}};
  for (const ConfigKey& key : schema_of(copy)) {
    if (!key.may_differ) values[key.name] = toml_text(key.value);
  }
  return values;
}

// The values of `own` that are not those of `first`. Versions may have different keys.
Values differences(const Values& first, const Values& own) {
  Values found;
  for (const auto& [key, value] : own) {
    const auto other = first.find(key);
    if (other == first.end() || other->second != value) found[key] = value;
  }
  return found;
}

struct Difference {
  std::string value;
  int rank = 0;   // the first that has it
  int ranks = 0;  // whose value is not rank 0's
};

std::string text_of(const std::map<std::string, Difference>& differences, const Values& first) {
  constexpr std::size_t kShown = 10;
  std::string text;
  std::size_t count = 0;
  for (const auto& [key, difference] : differences) {
    if (count++ == kShown) break;
    const auto other = first.find(key);
    text += fmt::format(
        "{}{} is {} on rank 0 and {} on rank {}{}", text.empty() ? "" : "; ", key,
        other == first.end() ? "unknown" : other->second, difference.value, difference.rank,
        difference.ranks == 1 ? "" : fmt::format(" ({} ranks differ)", difference.ranks));
  }
  if (count > kShown) text += fmt::format("; and {} more", differences.size() - kShown);
  return text;
}

}  // namespace

void require_same_configuration(const Config& config, Communicator& world) {
  const Values own = common_values(config);
  const Values first =
      nlohmann::json::parse(broadcast_object(world, nlohmann::json(own).dump(), 0));
  const Values different = differences(first, own);
  const std::vector<std::string> all =
      all_gather_objects(world, different.empty() ? "" : nlohmann::json(different).dump());
  std::map<std::string, Difference> found;
  for (int rank = 0; rank < world.size(); ++rank) {
    const std::string& text = all[static_cast<std::size_t>(rank)];
    if (text.empty()) continue;
    for (const auto& [key, value] : Values(nlohmann::json::parse(text))) {
      Difference& difference = found[key];
      if (difference.ranks++ > 0) continue;
      difference.value = value;
      difference.rank = rank;
    }
  }
  if (found.empty()) return;
  throw UsageError(
      fmt::format("all ranks must have the same configuration: {}; start each of them with the "
                  "same file and command line (`trireme keys` says which keys may differ)",
                  text_of(found, first)));
}

}  // namespace trireme::plan
