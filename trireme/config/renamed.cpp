#include "trireme/config/renamed.h"

namespace trireme {

namespace {

std::string_view find(std::string_view key, std::string_view value,
                      std::span<const Renamed> table) {
  for (const Renamed& entry : table) {
    if (entry.key == key && entry.value == value) return entry.now;
  }
  return {};
}

}  // namespace

std::span<const Renamed> renamed() {
  static constexpr Renamed kAll[] = {
      {"training.dtype", "", "training.precision"},
      {"parallelism.strategy", "shared", "host_shared"},
      {"parallelism.strategy", "through_server", "parameter_server"},
  };
  return kAll;
}

std::string_view new_key(std::string_view key, std::span<const Renamed> table) {
  return find(key, "", table);
}

std::string_view new_value(std::string_view key, std::string_view value,
                           std::span<const Renamed> table) {
  return value.empty() ? std::string_view() : find(key, value, table);
}

}  // namespace trireme
