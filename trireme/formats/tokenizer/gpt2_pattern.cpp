#include "trireme/formats/tokenizer/pattern.h"
#include "trireme/formats/tokenizer/text_scanner.h"

namespace trireme {

namespace {

// kGpt2Expression by hand: one look at each character. Its alternatives in their order are
// contractions, a word, a number, other characters, each with a blank before it or not, and blanks,
// the last of which is left to what follows.
class Gpt2Pattern final : public Pattern {
 public:
  void for_each_match(std::string_view text, const Use& use) const override {
    for_each_piece(
        text, [&](std::size_t begin) { return end_of_piece(text, begin); }, use);
  }

 private:
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
    TextScanner::Character first = scanner_.character_at(text, begin);
    if (text[begin] == ' ' && first.end < text.size()) {
      const auto next = scanner_.character_at(text, first.end);
      if (next.kind != UnicodeClasses::kSpace) first = next;
    }
    return first.kind == UnicodeClasses::kSpace ? scanner_.end_of_blanks(text, first.end)
                                                : scanner_.end_of_run(text, first);
  }

  TextScanner scanner_;
};

}  // namespace

std::unique_ptr<Pattern> gpt2_pattern() {
  return std::make_unique<Gpt2Pattern>();
}

}  // namespace trireme
