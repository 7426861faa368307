#include "trireme/config/key_use.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "trireme/base/error.h"

namespace trireme {

namespace {

using Source = Config::Origin::Source;

std::string raw_text(const ConfigKey::Target& value) {
  if (const auto* text = std::get_if<std::string*>(&value)) return **text;
  return toml_text(value);
}

std::string quoted(const ConfigKey& key, const std::string& value) {
  return std::holds_alternative<std::string*>(key.value) ? fmt::format("\"{}\"", value) : value;
}

void add_once(std::string text, std::vector<std::string>& all) {
  if (std::ranges::find(all, text) == all.end()) all.push_back(std::move(text));
}

// A key that is set and not used, in the words of an error.
std::string not_used(const KeyUses& uses, const ConfigKey& key, const std::string& name) {
  return fmt::format("{} = {} is not used with {}; it is used with {}", name, toml_text(key.value),
                     uses.unused_because_of(key), uses.used_with(key));
}

bool is_decided_by_command_line(const Config& config, const KeyUses& uses, const ConfigKey& key) {
  return std::ranges::any_of(uses.deciding_keys(key), [&](const std::string& name) {
    const auto origin = config.origins.find(name);
    return origin != config.origins.end() && origin->second.source == Source::kCommandLine;
  });
}

enum class Finding { kFine, kDropped, kRefused };

Finding judge(const Config& config, const KeyUses& uses, const ConfigKey& key) {
  const auto origin = config.origins.find(key.name);
  if (origin == config.origins.end() || uses.is_used(key)) return Finding::kFine;
  if (origin->second.source == Source::kCommandLine) return Finding::kRefused;
  if (origin->second.source == Source::kRunDirectory) return Finding::kFine;
  return is_decided_by_command_line(config, uses, key) ? Finding::kDropped : Finding::kRefused;
}

std::string place_of(const Config& config, const std::string& key) {
  return config.origins.at(key).where + ": ";
}

void refuse_unused_keys_of_groups(Config& config, const KeyUses& uses) {
  const auto origin = config.origins.find("optimizer.groups");
  if (origin == config.origins.end() || origin->second.source == Source::kRunDirectory) return;
  Config::Optimizer::Group defaults;
  const std::vector<ConfigKey> unset = schema_of(defaults);
  for (std::size_t g = 0; g < config.optimizer.groups.size(); ++g) {
    const std::vector<ConfigKey> keys = schema_of(config.optimizer.groups[g]);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (uses.is_used(keys[i]) || toml_text(keys[i].value) == toml_text(unset[i].value)) continue;
      throw UsageError(
          place_of(config, "optimizer.groups") +
          not_used(uses, keys[i], fmt::format("optimizer.groups[{}].{}", g, keys[i].name)));
    }
  }
}

}  // namespace

const ConfigKey& KeyUses::named(const std::string& name) const {
  return *std::ranges::find(keys_, name, &ConfigKey::name);
}

bool KeyUses::is_met(const ConfigKey::Use& use) const {
  const ConfigKey& key = named(use.key);
  const bool is_listed = std::ranges::find(use.values, raw_text(key.value)) != use.values.end();
  return is_listed != use.others && is_used(key);
}

bool KeyUses::is_used(const ConfigKey& key) const {
  return key.uses.empty() ||
         std::ranges::any_of(key.uses, [&](const ConfigKey::Use& use) { return is_met(use); });
}

std::string KeyUses::used_with(const ConfigKey& key) const {
  std::vector<std::string> ways;
  for (const ConfigKey::Use& use : key.uses) {
    const ConfigKey& other = named(use.key);
    std::vector<std::string> values;
    for (const std::string& value : use.values) values.push_back(quoted(other, value));
    const std::string first = other.uses.empty() ? "" : used_with(other);
    const bool is_list = other.uses.size() > 1;
    ways.push_back(fmt::format("{}{}{} {} {}", is_list ? "(" + first + ")" : first,
                               first.empty() ? "" : " and ", use.key,
                               use.others ? "other than" : "=", fmt::join(values, " or ")));
  }
  return fmt::format("{}", fmt::join(ways, ", or "));
}

std::string KeyUses::unused_because_of(const ConfigKey& key) const {
  std::vector<std::string> causes;
  for (const ConfigKey::Use& use : key.uses) {
    const ConfigKey& other = named(use.key);
    add_once(is_used(other) ? fmt::format("{} = {}", use.key, quoted(other, raw_text(other.value)))
                            : unused_because_of(other),
             causes);
  }
  return fmt::format("{}", fmt::join(causes, " and "));
}

std::vector<std::string> KeyUses::deciding_keys(const ConfigKey& key) const {
  std::vector<std::string> all;
  for (const ConfigKey::Use& use : key.uses) {
    add_once(use.key, all);
    for (std::string& name : deciding_keys(named(use.key))) add_once(std::move(name), all);
  }
  return all;
}

void refuse_unused_keys(const Config& config) {
  Config copy = config;
  const KeyUses uses(copy);
  for (const ConfigKey& key : uses.keys()) {
    if (judge(config, uses, key) == Finding::kRefused) {
      throw UsageError(place_of(config, key.name) + not_used(uses, key, key.name));
    }
  }
  refuse_unused_keys_of_groups(copy, uses);
}

std::vector<std::string> dropped_keys(const Config& config) {
  Config copy = config, defaults;
  const KeyUses uses(copy), unset(defaults);
  std::vector<std::string> all;
  for (std::size_t i = 0; i < uses.keys().size(); ++i) {
    const ConfigKey& key = uses.keys()[i];
    if (judge(config, uses, key) != Finding::kDropped) continue;
    if (toml_text(key.value) == toml_text(unset.keys()[i].value)) continue;
    all.push_back(fmt::format("{}{} = {} is not used with {}", place_of(config, key.name), key.name,
                              toml_text(key.value), uses.unused_because_of(key)));
  }
  return all;
}

}  // namespace trireme
