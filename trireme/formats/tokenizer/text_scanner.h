#pragma once

#include <cstdint>
#include <string_view>

#include "trireme/formats/tokenizer/unicode_classes.h"
#include "trireme/formats/tokenizer/utf8.h"

namespace trireme {

/// Goes over a text by the classes of its characters: what the patterns that are written by hand
/// have in common.
class TextScanner {
 public:
  /// A character: its class and where it ends.
  struct Character {
    std::uint8_t kind = 0;
    std::size_t end = 0;
  };

  Character character_at(std::string_view text, std::size_t at) const {
    const char32_t character = next_character(text, at);
    return {classes_.of(character), at};
  }

  /// The end of the characters behind `last` that are of its class, `most` of them at most.
  std::size_t end_of_run(std::string_view text, Character last,
                         std::size_t most = std::string_view::npos) const {
    for (std::size_t i = 0; i < most && last.end < text.size(); ++i) {
      const Character next = character_at(text, last.end);
      if (next.kind != last.kind) break;
      last = next;
    }
    return last.end;
  }

  /// \s+(?!\S)|\s+ where `end` is behind the first blank: all blanks, or all but the last if
  /// something follows them.
  std::size_t end_of_blanks(std::string_view text, std::size_t end) const {
    std::size_t before_last = end;
    while (end < text.size()) {
      const Character next = character_at(text, end);
      if (next.kind != UnicodeClasses::kSpace) return before_last;
      before_last = end;
      end = next.end;
    }
    return end;
  }

 private:
  UnicodeClasses classes_;
};

/// Calls use(begin, end) for pieces that cover the text, one behind the other; end_of_piece(begin)
/// is the end of the piece that begins there.
template <class EndOfPiece, class Use>
void for_each_piece(std::string_view text, const EndOfPiece& end_of_piece, const Use& use) {
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = end_of_piece(begin);
    use(begin, end);
    begin = end;
  }
}

}  // namespace trireme
