#include "trireme/formats/tokenizer/utf16.h"

#include <fmt/format.h>

#include "trireme/base/error.h"
#include "trireme/formats/tokenizer/utf8.h"

namespace trireme {

std::u16string utf16_of(std::string_view text) {
  constexpr std::size_t kMost = std::size_t{1} << 30;  // ICU counts in 32 bits
  if (text.size() > kMost) {
    throw DataError(
        fmt::format("a document must have at most {} bytes for this tokenizer, has {}; split it",
                    kMost, text.size()));
  }
  std::u16string units;
  units.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    char32_t character = next_character(text, at);
    if (character == kNotUtf8) character = 0xFFFD;
    if (character < 0x10000) {
      units += static_cast<char16_t>(character);
    } else {
      units += static_cast<char16_t>(0xD800 + ((character - 0x10000) >> 10));
      units += static_cast<char16_t>(0xDC00 + (character & 0x3FF));
    }
  }
  return units;
}

std::string utf8_of(std::u16string_view units) {
  std::string text;
  for (std::size_t at = 0; at < units.size(); ++at) {
    char32_t character = units[at];
    if (character >= 0xD800 && character < 0xDC00 && at + 1 < units.size()) {
      character = 0x10000 + ((character - 0xD800) << 10) + (units[++at] - 0xDC00);
    }
    append_utf8(character, text);
  }
  return text;
}

std::size_t Utf16Cursor::byte_at(std::size_t unit) {
  while (unit_ < unit) {
    const char32_t character = next_character(text_, byte_);
    unit_ += character >= 0x10000 && character != kNotUtf8 ? 2 : 1;
  }
  return byte_;
}

}  // namespace trireme
