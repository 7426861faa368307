#include <algorithm>

#include "trireme/formats/tokenizer/pattern.h"
#include "trireme/formats/tokenizer/text_scanner.h"

namespace trireme {

namespace {

bool is_line_break(char c) {
  return c == '\r' || c == '\n';
}

// The expressions of Llama 3 and Qwen 2 by hand. They differ from GPT-2's in this: contractions of
// any case, any one character before a word, at most `digits` digits of a number, line breaks
// behind other characters, and blanks up to the last line break.
class Llama3Pattern final : public Pattern {
 public:
  explicit Llama3Pattern(std::size_t digits) : digits_(digits) {}

  void for_each_match(std::string_view text, const Use& use) const override {
    for_each_piece(
        text, [&](std::size_t begin) { return end_of_piece(text, begin); }, use);
  }

 private:
  // The bytes behind the apostrophe. U+017F is a long s, in another case than s.
  static std::size_t contraction(std::string_view rest) {
    constexpr std::string_view kLongS = "\u017f";
    if (rest.starts_with(kLongS)) return kLongS.size();
    for (const std::string_view word : {"s", "t", "re", "ve", "m", "ll", "d"}) {
      const auto equal = [](char wanted, char c) { return (c | 0x20) == wanted; };
      if (rest.size() >= word.size() &&
          std::ranges::equal(word, rest.substr(0, word.size()), equal)) {
        return word.size();
      }
    }
    return 0;
  }

  std::size_t end_of_piece(std::string_view text, std::size_t begin) const {
    if (text[begin] == '\'') {
      const std::size_t size = contraction(text.substr(begin + 1));
      if (size > 0) return begin + 1 + size;
    }
    const auto first = scanner_.character_at(text, begin);
    if (first.kind == UnicodeClasses::kLetter) return scanner_.end_of_run(text, first);
    if (first.kind == UnicodeClasses::kNumber) return scanner_.end_of_run(text, first, digits_ - 1);
    if (first.end < text.size() && !is_line_break(text[begin])) {
      const auto next = scanner_.character_at(text, first.end);
      if (next.kind == UnicodeClasses::kLetter) return scanner_.end_of_run(text, next);
      if (text[begin] == ' ' && next.kind == 0) return end_of_others(text, next);
    }
    if (first.kind == 0) return end_of_others(text, first);
    return end_of_space(text, begin, first);
  }

  std::size_t end_of_others(std::string_view text, TextScanner::Character first) const {
    std::size_t end = scanner_.end_of_run(text, first);
    while (end < text.size() && is_line_break(text[end])) ++end;
    return end;
  }

  std::size_t end_of_space(std::string_view text, std::size_t begin,
                           TextScanner::Character first) const {
    const std::size_t end = scanner_.end_of_run(text, first);
    const std::size_t line_break = text.substr(begin, end - begin).find_last_of("\r\n");
    return line_break == std::string_view::npos ? scanner_.end_of_blanks(text, first.end)
                                                : begin + line_break + 1;
  }

  TextScanner scanner_;
  std::size_t digits_;
};

}  // namespace

std::unique_ptr<Pattern> llama3_pattern(std::size_t digits) {
  return std::make_unique<Llama3Pattern>(digits);
}

}  // namespace trireme
