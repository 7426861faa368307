#pragma once

#include <string>
#include <vector>

#include "trireme/config/config.h"

namespace trireme {

/// A key whose value is not that of another configuration.
struct KeyDifference {
  std::string key;
  std::string value;  ///< as TOML
  std::string other;  ///< as TOML
};

/// Returns the keys that both configurations use and that have another value in `other`.
/// run.directory is not compared.
std::vector<KeyDifference> differences(const Config& config, const Config& other);

}  // namespace trireme
