#include "trireme/config/key.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/config/schema/sections.h"

namespace trireme {

ConfigKey& ConfigKey::used_with(std::string key, std::vector<std::string> values) {
  uses.push_back({std::move(key), std::move(values)});
  return *this;
}

ConfigKey& ConfigKey::used_unless(std::string key, std::vector<std::string> values) {
  uses.push_back({std::move(key), std::move(values), true});
  return *this;
}

ConfigKey& ConfigKey::may_differ_between_hosts() {
  may_differ = true;
  return *this;
}

ConfigKey& ConfigKey::names_files(std::vector<std::string> not_paths) {
  is_file = true;
  words = std::move(not_paths);
  return may_differ_between_hosts();
}

std::vector<ConfigKey> schema_of(Config& config) {
  std::vector<ConfigKey> keys;
  add_keys(keys, config.run);
  add_keys(keys, config.data);
  add_keys(keys, config.model);
  add_keys(keys, config.training);
  add_keys(keys, config.optimizer);
  add_keys(keys, config.lr_scheduler);
  add_keys(keys, config.parallelism);
  add_keys(keys, config.communication);
  add_keys(keys, config.evaluation);
  add_keys(keys, config.metrics);
  add_keys(keys, config.checkpoint);
  return keys;
}

void check_values(const Config& config) {
  Config copy = config;
  for (const ConfigKey& key : schema_of(copy)) {
    const std::optional<std::string> wanted = key.rule(key.value);
    if (!wanted) continue;
    throw UsageError(fmt::format("{} must be {}, got {}", key.name, *wanted, toml_text(key.value)));
  }
}

Config with_absolute_paths(Config config, const std::filesystem::path& folder) {
  const auto complete = [&](const ConfigKey& key, std::string& path) {
    const bool is_path = !path.empty() && std::ranges::count(key.words, path) == 0;
    if (is_path) path = (folder / path).lexically_normal().string();
  };
  for (const ConfigKey& key : schema_of(config)) {
    if (!key.is_file) continue;
    if (auto* const* path = std::get_if<std::string*>(&key.value)) complete(key, **path);
    if (auto* const* paths = std::get_if<std::vector<std::string>*>(&key.value)) {
      for (std::string& path : **paths) complete(key, path);
    }
  }
  return config;
}

std::vector<ConfigKey> schema_of(Config::Optimizer::Group& group) {
  std::vector<ConfigKey> keys;
  add_keys(keys, group);
  return keys;
}

}  // namespace trireme
