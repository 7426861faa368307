#include "trireme/formats/printable.h"

#include <fmt/format.h>

#include <algorithm>

namespace trireme {

namespace {

// Bytes of the character at the front of `text`, and its number; 0 bytes if it is not UTF-8.
struct Character {
  std::size_t bytes = 0;
  char32_t number = 0;
};

Character first_of(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {1, lead};
  const std::size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 0;
  if (bytes == 0 || lead > 0xf4 || text.size() < bytes) return {};
  char32_t number = lead & (0x7f >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xc0) != 0x80) return {};
    number = number << 6 | (next & 0x3f);
  }
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool is_surrogate = number >= 0xd800 && number < 0xe000;
  if (number < kSmallest[bytes] || number > 0x10ffff || is_surrogate) return {};
  return {bytes, number};
}

bool is_control(char32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x061c ||  // C0, C1, Arabic letter mark
         (c >= 0x200b && c <= 0x200f) ||                        // of no width; marks of direction
         (c >= 0x2028 && c <= 0x202e) ||                 // ends of lines; embedded directions
         (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||  // isolated directions and the like
         (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c <= 0xe007f);  // annotations, tags
}

}  // namespace

std::string without_control_characters(std::string_view text, std::size_t longest) {
  const bool is_cut = text.size() > longest;
  text = text.substr(0, longest);
  std::string out;
  while (!text.empty()) {
    const Character c = first_of(text);
    if (c.bytes > 0 && !is_control(c.number)) {
      out += text.substr(0, c.bytes);
      text.remove_prefix(c.bytes);
      continue;
    }
    // Half of a character at the cut is left out.
    if (is_cut && c.bytes == 0 && text.size() < 4) break;
    for (std::size_t i = 0; i < std::max<std::size_t>(1, c.bytes); ++i) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[i]));
    }
    text.remove_prefix(std::max<std::size_t>(1, c.bytes));
  }
  return is_cut ? out + "..." : out;
}

std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 64;
  std::string out = "\"";
  for (const char c : text.substr(0, kLongest)) {
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (c >= 0x20 && c < 0x7f) {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return out + (text.size() > kLongest ? "...\"" : "\"");
}

}  // namespace trireme
