#pragma once

#include <span>
#include <string>
#include <string_view>

namespace trireme {

/// A key, or a value of a key, that had another name in an earlier version.
struct Renamed {
  std::string_view key;    ///< "section.key"; of a renamed key, its old name
  std::string_view value;  ///< the old value; empty: the key itself has a new name
  std::string_view now;    ///< the new value or key
};

/// Returns all of them.
std::span<const Renamed> renamed();

/// Returns the new name of `key`, or empty if it is not an old one.
std::string_view new_key(std::string_view key, std::span<const Renamed> table = renamed());

/// Returns the new name of a value of `key`, or empty if `value` is not an old one.
std::string_view new_value(std::string_view key, std::string_view value,
                           std::span<const Renamed> table = renamed());

}  // namespace trireme
