#pragma once

#include <cstdint>
#include <vector>

namespace trireme {

/// \s: the property White_Space.
bool is_space(char32_t character);
/// \w: a letter, a mark, a decimal digit and the like (UTS 18, annex C).
bool is_word_character(char32_t character);

/// What GPT-2's pattern asks of a character, as a table for all of them: 1.1 MB, filled in a few
/// milliseconds from ICU's data.
class UnicodeClasses {
 public:
  static constexpr std::uint8_t kLetter = 1;  ///< \p{L}
  static constexpr std::uint8_t kNumber = 2;  ///< \p{N}
  static constexpr std::uint8_t kSpace = 4;   ///< \s

  UnicodeClasses();

  /// The class of a character; 0 for others and for kNotUtf8.
  std::uint8_t of(char32_t character) const {
    return character < classes_.size() ? classes_[character] : 0;
  }

 private:
  std::vector<std::uint8_t> classes_;
};

}  // namespace trireme
