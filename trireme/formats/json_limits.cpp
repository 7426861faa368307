#include "trireme/formats/json_limits.h"

#include <fmt/format.h>

#include "trireme/base/error.h"

namespace trireme {

void check_json_limits(std::string_view text, const JsonLimits& limits, std::string_view what) {
  if (text.size() > limits.bytes) {
    throw DataError(fmt::format("{}: JSON of at most {} bytes is wanted, got {}", what,
                                limits.bytes, text.size()));
  }
  int depth = 0;
  // A bracket, a comma and a colon each begin at most one value.
  std::size_t values = 1;
  bool in_text = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (in_text) {
      if (c == '\\') ++at;
      if (c == '"') in_text = false;
      continue;
    }
    if (c == '"') in_text = true;
    if (c == '[' || c == '{') {
      if (++depth > limits.depth) {
        throw DataError(fmt::format(
            "{}: JSON of at most {} arrays and objects inside each other is wanted, got more at "
            "byte {}",
            what, limits.depth, at));
      }
    }
    if (c == ']' || c == '}') --depth;
    if (c == '[' || c == '{' || c == ',' || c == ':') ++values;
    if (values > limits.values) {
      throw DataError(fmt::format("{}: JSON of at most {} values is wanted, got more at byte {}",
                                  what, limits.values, at));
    }
  }
}

}  // namespace trireme
