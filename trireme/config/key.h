#pragma once

#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "trireme/config/config.h"

namespace trireme {

/// One key: where its value lies in a Config, what it may be and which other keys use it.
struct ConfigKey {
  using Groups = std::vector<Config::Optimizer::Group>;
  using Target = std::variant<bool*, std::int64_t*, double*, std::string*, Duration*,
                              std::vector<std::int64_t>*, std::vector<double>*,
                              std::vector<std::string>*, std::optional<double>*, Groups*>;
  /// Returns what the value must be ("a positive number"), or nothing if the value is allowed.
  using Rule = std::function<std::optional<std::string>(const Target&)>;

  /// The values of another key that use this one: those listed or, with `others`, all but those.
  struct Use {
    std::string key;
    std::vector<std::string> values;  ///< text as it is, everything else as TOML
    bool others = false;
  };

  std::string name;
  Target value;
  std::string meaning;
  Rule rule;
  std::vector<Use> uses = {};           ///< one of these is enough; empty: the key is always used
  bool may_differ = false;              ///< between the hosts of a run: paths, addresses, threads
  bool is_file = false;                 ///< text or texts: paths of files
  std::vector<std::string> words = {};  ///< values of such a key that are no paths

  ConfigKey& used_with(std::string key, std::vector<std::string> values);
  ConfigKey& used_unless(std::string key, std::vector<std::string> values);
  ConfigKey& may_differ_between_hosts();
  /// Its paths may differ between hosts. `not_paths`: values that name none.
  ConfigKey& names_files(std::vector<std::string> not_paths = {});
};

/// Returns every key, in the order in which files show them, bound to `config`.
std::vector<ConfigKey> schema_of(Config& config);

/// Returns the keys of one of optimizer.groups, bound to `group`.
std::vector<ConfigKey> schema_of(Config::Optimizer::Group& group);

/// Returns the type of a key in the words of errors and documents: "integer", "list of texts".
std::string type_name(const ConfigKey::Target& value);

/// Returns a value as TOML.
std::string toml_text(const ConfigKey::Target& value);

}  // namespace trireme
