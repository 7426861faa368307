#include "trireme/formats/tokenizer/pattern.h"

namespace trireme {

namespace {

class LiteralPattern final : public Pattern {
 public:
  explicit LiteralPattern(std::string literal) : literal_(std::move(literal)) {}

  void for_each_match(std::string_view text, const Use& use) const override {
    if (literal_.empty()) return;
    for (std::size_t at = 0; (at = text.find(literal_, at)) != std::string_view::npos;) {
      use(at, at + literal_.size());
      at += literal_.size();
    }
  }

 private:
  std::string literal_;
};

}  // namespace

std::unique_ptr<Pattern> literal_pattern(const std::string& literal) {
  return std::make_unique<LiteralPattern>(literal);
}

std::unique_ptr<Pattern> compile_pattern(const std::string& expression) {
  if (expression == kGpt2Expression) return gpt2_pattern();
  if (expression == kLlama3Expression) return llama3_pattern(3);
  if (expression == kQwen2Expression) return llama3_pattern(1);
  return icu_pattern(expression);
}

}  // namespace trireme
