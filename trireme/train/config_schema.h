#pragma once

#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "trireme/train/config.h"

namespace trireme {

/// One key: where its value lies in a Config and what it may be.
struct ConfigKey {
  using Target =
      std::variant<bool*, std::int64_t*, double*, std::string*, std::vector<std::int64_t>*,
                   std::vector<double>*, std::vector<std::string>*>;
  /// What the value must be ("must be a positive number"), or nothing if it is that.
  using Rule = std::function<std::optional<std::string>(const Target&)>;

  std::string name;
  Target value;
  std::string meaning;
  Rule rule;
};

/// Every key, in the order in which files show them, bound to `config`.
std::vector<ConfigKey> schema_of(Config& config);

}  // namespace trireme
