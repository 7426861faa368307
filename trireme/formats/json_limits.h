#pragma once

#include <cstddef>
#include <string_view>

namespace trireme {

/// How large a JSON text from outside may be before it is parsed.
struct JsonLimits {
  std::size_t bytes = 0;
  int depth = 0;           ///< arrays and objects inside each other
  std::size_t values = 0;  ///< numbers, texts, arrays, objects and names
};

/// One pass over the bytes, which allocates nothing. `what` begins the error. Throws DataError if
/// the text is larger than the limits. A text that is no JSON may pass: its parser refuses it.
void check_json_limits(std::string_view text, const JsonLimits& limits, std::string_view what);

}  // namespace trireme
