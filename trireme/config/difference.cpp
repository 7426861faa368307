#include "trireme/config/difference.h"

#include <cstddef>

#include "trireme/config/key_use.h"

namespace trireme {

std::vector<KeyDifference> differences(const Config& config, const Config& other) {
  Config mine = config, theirs = other;
  const KeyUses uses(mine), other_uses(theirs);
  std::vector<KeyDifference> found;
  for (std::size_t i = 0; i < uses.keys().size(); ++i) {
    const ConfigKey& key = uses.keys()[i];
    const ConfigKey& other_key = other_uses.keys()[i];
    if (key.name == "run.directory") continue;
    if (!uses.is_used(key) || !other_uses.is_used(other_key)) continue;
    const std::string value = toml_text(key.value), other_value = toml_text(other_key.value);
    if (value != other_value) found.push_back({key.name, value, other_value});
  }
  return found;
}

}  // namespace trireme
