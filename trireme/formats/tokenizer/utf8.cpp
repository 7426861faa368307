#include "trireme/formats/tokenizer/utf8.h"

#include <fmt/format.h>

#include <cstdint>
#include <cstring>

namespace trireme {

namespace {

constexpr char32_t kReplacement = 0xFFFD;

struct FirstByte {
  int following = 0;        // bytes
  std::uint8_t low = 0x80;  // the range of the second byte: Unicode Standard, table 3-7
  std::uint8_t high = 0xBF;
};

// For bytes from 0x80 on; none follow where no character may begin with the byte.
FirstByte first_byte(std::uint8_t byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return {1};
  if (byte == 0xE0) return {2, 0xA0};
  if (byte == 0xED) return {2, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {2};
  if (byte == 0xF0) return {3, 0x90};
  if (byte >= 0xF1 && byte <= 0xF3) return {3};
  if (byte == 0xF4) return {3, 0x80, 0x8F};
  return {};
}

// The number of ASCII characters that `text` begins with, rounded down to a multiple of 8.
std::size_t ascii_blocks(std::string_view text) {
  std::size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    std::uint64_t block = 0;
    std::memcpy(&block, text.data() + at, 8);
    if ((block & 0x8080808080808080u) != 0) break;
  }
  return at;
}

}  // namespace

char32_t next_character(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t first = byte(at++);
  if (first < 0x80) return first;
  FirstByte kind = first_byte(first);
  if (kind.following == 0) return kNotUtf8;
  char32_t character = first & (0x3F >> kind.following);
  for (int i = 0; i < kind.following; ++i) {
    if (at == text.size() || byte(at) < kind.low || byte(at) > kind.high) return kNotUtf8;
    character = (character << 6) | (byte(at++) & 0x3F);
    kind.low = 0x80;
    kind.high = 0xBF;
  }
  return character;
}

void append_utf8(char32_t character, std::string& text) {
  const auto byte = [&](char32_t value) { text += static_cast<char>(value); };
  if (character < 0x80) return byte(character);
  if (character < 0x800) {
    byte(0xC0 | (character >> 6));
  } else if (character < 0x10000) {
    byte(0xE0 | (character >> 12));
    byte(0x80 | ((character >> 6) & 0x3F));
  } else {
    byte(0xF0 | (character >> 18));
    byte(0x80 | ((character >> 12) & 0x3F));
    byte(0x80 | ((character >> 6) & 0x3F));
  }
  byte(0x80 | (character & 0x3F));
}

std::size_t find_not_utf8(std::string_view text) {
  for (std::size_t at = ascii_blocks(text); at < text.size();) {
    const std::size_t begin = at;
    if (next_character(text, at) == kNotUtf8) return begin;
    if (at % 64 == 0) at += ascii_blocks(text.substr(at));
  }
  return std::string_view::npos;
}

std::string replace_not_utf8(std::string_view text) {
  std::string replaced;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    if (next_character(text, at) == kNotUtf8) {
      append_utf8(kReplacement, replaced);
    } else {
      replaced += text.substr(begin, at - begin);
    }
  }
  return replaced;
}

std::string shown_character(char32_t character) {
  const bool is_control = character < 0x20 || (character >= 0x7F && character < 0xA0);
  const std::string value = fmt::format("U+{:04X}", static_cast<std::uint32_t>(character));
  if (is_control) return value;
  std::string text;
  append_utf8(character, text);
  return fmt::format("'{}' ({})", text, value);
}

}  // namespace trireme
