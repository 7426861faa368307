#include "trireme/formats/tokenizer/bytes.h"

#include "trireme/formats/tokenizer/token_error.h"

namespace trireme {

namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  void append(std::string_view text, SpecialTokens, std::vector<std::int32_t>& ids) const override {
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text;
    for (const std::int32_t id : ids) {
      check_token(id, vocabulary(), name());
      if (id == kEndOfText) {
        text += kEndOfTextWord;
      } else {
        text += static_cast<char>(id);
      }
    }
    return text;
  }

  std::int64_t vocabulary() const override { return kEndOfText + 1; }
  std::optional<std::int32_t> end_of_text() const override { return kEndOfText; }
  std::string name() const override { return "bytes"; }
  std::string to_json() const override { return R"({"type":"bytes"})"; }

 private:
  static constexpr std::int32_t kEndOfText = 256;
};

}  // namespace

std::unique_ptr<Tokenizer> byte_tokenizer() {
  return std::make_unique<ByteTokenizer>();
}

}  // namespace trireme
