#include "trireme/formats/json_error.h"

#include <fmt/format.h>

namespace trireme {

std::string reason_of(const nlohmann::json::exception& error) {
  if (const auto* parse = dynamic_cast<const nlohmann::json::parse_error*>(&error)) {
    return parse->byte <= 1 ? "it is empty or not JSON at all"
                            : fmt::format("it is not JSON from byte {} on", parse->byte);
  }
  // "[json.exception.out_of_range.403] key 'step' not found"
  const std::string text = error.what();
  const std::size_t end = text.find("] ");
  return end == std::string::npos ? text : text.substr(end + 2);
}

}  // namespace trireme
