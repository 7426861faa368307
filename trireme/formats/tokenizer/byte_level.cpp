#include "trireme/formats/tokenizer/byte_level.h"

#include "trireme/formats/tokenizer/utf8.h"

namespace trireme {

namespace {

// Bytes that are visible characters of Latin-1 stand for themselves.
bool is_visible(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

// The others are, in their order, U+0100, U+0101, ...
int hidden_byte(char32_t character) {
  char32_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (!is_visible(byte) && next++ == character) return static_cast<int>(byte);
  }
  return -1;
}

}  // namespace

std::optional<std::string> bytes_of_byte_level(std::string_view token) {
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    const char32_t character = next_character(token, at);
    if (character < 256 && is_visible(character)) {
      bytes += static_cast<char>(character);
      continue;
    }
    const int hidden = character < 0x200 ? hidden_byte(character) : -1;
    if (hidden < 0) return std::nullopt;
    bytes += static_cast<char>(hidden);
  }
  return bytes;
}

}  // namespace trireme
