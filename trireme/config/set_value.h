#pragma once

#include <string>
#include <string_view>

namespace trireme {

/// Returns `text`, a configuration in TOML, with `value` (as TOML) for `key`, "section.name".
/// Everything else stays byte by byte: comments, blanks, the order of keys, ends of lines. A key
/// that is not there is added at the beginning of its section, and a section at the end.
///
/// Throws UsageError if the text is no TOML, or if the key can only be added by hand: to a section
/// that is written as an inline table or by dotted keys. `source`: the name of the text for errors.
std::string with_value(const std::string& text, std::string_view key, std::string_view value,
                       const std::string& source);

}  // namespace trireme
