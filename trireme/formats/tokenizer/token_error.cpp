#include "trireme/formats/tokenizer/token_error.h"

#include <fmt/format.h>

#include <algorithm>

namespace trireme {

std::string place_in(std::string_view text, std::size_t offset) {
  const auto lines = std::ranges::count(text.substr(0, offset), '\n') + 1;
  return fmt::format("byte {} (line {})", offset + 1, lines);
}

DataError not_utf8(std::string_view who, std::string_view text, std::size_t offset) {
  return DataError(fmt::format("{}: text must be UTF-8, got the byte 0x{:02X} at {}", who,
                               static_cast<unsigned char>(text[offset]), place_in(text, offset)));
}

void check_token(std::int32_t id, std::int64_t vocabulary, std::string_view who) {
  if (id >= 0 && id < vocabulary) return;
  throw UsageError(
      fmt::format("{}: a token must be from 0 to {}, got {}: it belongs to another tokenizer", who,
                  vocabulary - 1, id));
}

}  // namespace trireme
