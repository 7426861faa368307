#include "trireme/formats/tokenizer/pattern.h"
#include "trireme/formats/tokenizer/unicode_classes.h"
#include "trireme/formats/tokenizer/utf8.h"

namespace trireme {

namespace {

// kGpt2Expression by hand: one look at each character. Its alternatives in their order are
// contractions, a word, a number, other characters, each with a blank before it or not, and blanks,
// the last of which is left to what follows.
class Gpt2Pattern final : public Pattern {
 public:
  void for_each_match(std::string_view text, const Use& use) const override {
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = end_of_piece(text, at);
      use(at, end);
      at = end;
    }
  }

 private:
  struct Kind {
    std::uint8_t kind;
    std::size_t end;
  };

  Kind character_at(std::string_view text, std::size_t at) const {
    const char32_t character = next_character(text, at);
    return {classes_.of(character), at};
  }

  static std::size_t contraction(std::string_view rest) {
    for (const std::string_view word : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
      if (rest.starts_with(word)) return word.size();
    }
    return 0;
  }

  std::size_t end_of_piece(std::string_view text, std::size_t begin) const {
    if (text[begin] == '\'') {
      if (const std::size_t size = contraction(text.substr(begin)); size > 0) return begin + size;
    }
    Kind first = character_at(text, begin);
    if (text[begin] == ' ' && first.end < text.size()) {
      const Kind next = character_at(text, first.end);
      if (next.kind != UnicodeClasses::kSpace) first = next;
    }
    if (first.kind == UnicodeClasses::kSpace) return end_of_blanks(text, first.end);
    return end_of_run(text, first);
  }

  // Behind the characters of one kind.
  std::size_t end_of_run(std::string_view text, Kind last) const {
    while (last.end < text.size()) {
      const Kind next = character_at(text, last.end);
      if (next.kind != last.kind) break;
      last = next;
    }
    return last.end;
  }

  // `end` is behind the first of the blanks.
  std::size_t end_of_blanks(std::string_view text, std::size_t end) const {
    std::size_t before_last = end;
    while (end < text.size()) {
      const Kind next = character_at(text, end);
      if (next.kind != UnicodeClasses::kSpace) return before_last;
      before_last = end;
      end = next.end;
    }
    return end;
  }

  UnicodeClasses classes_;
};

}  // namespace

std::unique_ptr<Pattern> gpt2_pattern() {
  return std::make_unique<Gpt2Pattern>();
}

}  // namespace trireme
