#pragma once

#include <string>
#include <string_view>

namespace trireme {

/// `text` for ICU: U+FFFD for what is not UTF-8. Throws DataError if it is longer than 1 GiB.
std::u16string utf16_of(std::string_view text);

std::string utf8_of(std::u16string_view units);

/// A place in a UTF-8 text and the same place in its utf16_of().
class Utf16Cursor {
 public:
  explicit Utf16Cursor(std::string_view text) : text_(text) {}

  /// Moves forward to UTF-16 unit `unit` and returns the byte there.
  std::size_t byte_at(std::size_t unit);

 private:
  std::string_view text_;
  std::size_t byte_ = 0;
  std::size_t unit_ = 0;
};

}  // namespace trireme
