#pragma once

#include <string>
#include <utility>
#include <vector>

#include "trireme/config/key.h"

namespace trireme {

/// Adds the keys of one section to a list:
///
///     const KeyAdder add{keys, "optimizer."};
///     add("momentum", &c.momentum, "decay of the velocity", fraction())
///         .used_with("optimizer.name", {"sgd", "rmsprop", "muon"});
struct KeyAdder {
  std::vector<ConfigKey>& keys;
  std::string prefix;

  ConfigKey& operator()(const char* name, ConfigKey::Target value, const char* meaning,
                        ConfigKey::Rule rule) const {
    keys.push_back({prefix + name, value, meaning, std::move(rule)});
    return keys.back();
  }
};

// One source a section, in the order of the file.
void add_keys(std::vector<ConfigKey>& keys, Config::Run& c);
void add_keys(std::vector<ConfigKey>& keys, Config::Data& c);
void add_keys(std::vector<ConfigKey>& keys, Config::Model& c);
void add_keys(std::vector<ConfigKey>& keys, Config::Training& c);
void add_keys(std::vector<ConfigKey>& keys, Config::Optimizer& c);
void add_keys(std::vector<ConfigKey>& keys, Config::Optimizer::Group& c);
void add_keys(std::vector<ConfigKey>& keys, Config::LrScheduler& c);
void add_keys(std::vector<ConfigKey>& keys, Config::Parallelism& c);
void add_keys(std::vector<ConfigKey>& keys, Config::Communication& c);
void add_keys(std::vector<ConfigKey>& keys, Config::Evaluation& c);
void add_keys(std::vector<ConfigKey>& keys, Config::Metrics& c);
void add_keys(std::vector<ConfigKey>& keys, Config::Checkpoint& c);

}  // namespace trireme
