#pragma once

#include <string>
#include <vector>

#include "trireme/config/config.h"
#include "trireme/config/key.h"

namespace trireme {

/// Which keys of a configuration the other keys use: with optimizer.name = "adam" nothing reads
/// optimizer.momentum.
class KeyUses {
 public:
  /// Borrows `config`, which must not change.
  explicit KeyUses(Config& config) : keys_(schema_of(config)) {}

  const std::vector<ConfigKey>& keys() const { return keys_; }
  bool is_used(const ConfigKey& key) const;

  /// Returns what would use `key`: `optimizer.name = "sgd" or "rmsprop" or "muon"`.
  std::string used_with(const ConfigKey& key) const;
  /// Returns the values that leave `key` unused: `optimizer.name = "adam"`.
  std::string unused_because_of(const ConfigKey& key) const;
  /// Returns all keys whose values decide whether `key` is used.
  std::vector<std::string> deciding_keys(const ConfigKey& key) const;

 private:
  const ConfigKey& named(const std::string& name) const;
  bool is_met(const ConfigKey::Use& use) const;

  std::vector<ConfigKey> keys_;
};

/// Throws UsageError for a key that is set and that nothing uses. A key counts as set if a file or
/// the command line names it, even with its default value. Keys of a run directory do not count,
/// and neither do keys of a file if the command line sets a key that decides about them.
void refuse_unused_keys(const Config& config);

/// Returns a sentence for each key of the file that the command line has made useless, if its value
/// is not the default.
std::vector<std::string> dropped_keys(const Config& config);

}  // namespace trireme
