#include "trireme/formats/tokenizer/bpe_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "trireme/formats/tokenizer/independent_parts.h"
#include "trireme/formats/tokenizer/piece_cache.h"
#include "trireme/formats/tokenizer/token_error.h"
#include "trireme/formats/tokenizer/utf8.h"

namespace trireme {

namespace {

// How the tokens are written that end a document: GPT-2's and Qwen's, Llama 3's, Llama 2's.
constexpr const char* kEndsOfText[] = {"<|endoftext|>", "<|end_of_text|>", "</s>"};

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(BpeParts parts)
      : parts_(std::move(parts)),
        raw_(added(parts_, false)),
        normalized_(added(parts_, true)),
        independent_(parts_.tables),
        bpe_(std::move(parts_.tables)) {
    for (const AddedToken& token : parts_.added) parts_.texts[token.id] = token.content;
    for (const auto& [id, text] : parts_.texts) {
      vocabulary_ = std::max<std::int64_t>(vocabulary_, std::int64_t{id} + 1);
    }
    for (const char* word : kEndsOfText) {
      const auto found = std::ranges::find(parts_.added, word, &AddedToken::content);
      if (found == parts_.added.end()) continue;
      end_of_text_ = found->id;
      break;
    }
  }

  void append(std::string_view text, SpecialTokens special,
              std::vector<std::int32_t>& ids) const override {
    const bool takes_any_bytes =
        parts_.pre_tokenizer && parts_.pre_tokenizer->is_byte_level() && !parts_.normalizer;
    if (const std::size_t wrong = takes_any_bytes ? text.npos : find_not_utf8(text);
        wrong != text.npos) {
      throw not_utf8(name(), text, wrong);
    }
    // Threads that come at the same time do without what one of them remembers.
    const std::unique_lock lock(mutex_, std::try_to_lock);
    Encoding encoding = {ids, special, lock ? &cache_ : nullptr};
    for (const TextSegment& segment : raw_.split(text, special)) {
      if (segment.id) {
        ids.push_back(*segment.id);
        continue;
      }
      const std::string_view part = text.substr(segment.begin, segment.end - segment.begin);
      if (parts_.normalizer) {
        append_normalized(parts_.normalizer->apply(part), segment.begin == 0, encoding);
      } else {
        append_normalized(part, segment.begin == 0, encoding);
      }
    }
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    std::vector<std::string> tokens;
    for (const std::int32_t id : ids) {
      check_token(id, vocabulary(), name());
      // A vocabulary may leave out numbers.
      const auto found = parts_.texts.find(id);
      if (found != parts_.texts.end()) tokens.push_back(found->second);
    }
    if (parts_.decoder) parts_.decoder->apply(tokens);
    std::string text;
    for (const std::string& token : tokens) text += token;
    return text;
  }

  std::int64_t vocabulary() const override { return vocabulary_; }
  std::optional<std::int32_t> end_of_text() const override { return end_of_text_; }
  TextFrame frame() const override { return parts_.frame; }
  std::string name() const override { return "bpe"; }
  std::string to_json() const override { return parts_.json; }

 private:
  struct Encoding {
    std::vector<std::int32_t>& ids;
    SpecialTokens special;
    PieceCache* cache;  // may be null
  };

  // Tokens that are looked for before or after a text is normalized.
  static std::vector<AddedToken> added(const BpeParts& parts, bool normalized) {
    std::vector<AddedToken> tokens;
    for (AddedToken token : parts.added) {
      if ((token.normalized && parts.normalizer != nullptr) != normalized) continue;
      if (normalized) token.content = parts.normalizer->apply(token.content);
      tokens.push_back(std::move(token));
    }
    return tokens;
  }

  void append_normalized(std::string_view text, bool begins_text, Encoding& encoding) const {
    if (!parts_.normalizer) return append_segment({text, begins_text}, encoding);
    for (const TextSegment& segment : normalized_.split(text, encoding.special)) {
      if (segment.id) {
        encoding.ids.push_back(*segment.id);
      } else {
        append_segment({text.substr(segment.begin, segment.end - segment.begin),
                        begins_text && segment.begin == 0},
                       encoding);
      }
    }
  }

  void append_segment(TextPiece segment, Encoding& encoding) const {
    const auto use = [&](std::string_view part) { append_piece(part, encoding); };
    if (!parts_.pre_tokenizer) return independent_.for_each(segment.text, use);
    parts_.pre_tokenizer->split(segment,
                                [&](TextPiece piece) { independent_.for_each(piece.text, use); });
  }

  void append_piece(std::string_view piece, Encoding& encoding) const {
    if (encoding.cache != nullptr && encoding.cache->append(piece, encoding.ids)) return;
    const std::size_t before = encoding.ids.size();
    bpe_.append(piece, encoding.ids);
    if (encoding.cache != nullptr) {
      encoding.cache->add(piece, std::span(encoding.ids).subspan(before));
    }
  }

  BpeParts parts_;
  AddedTokens raw_;
  AddedTokens normalized_;
  IndependentParts independent_;
  Bpe bpe_;
  std::int64_t vocabulary_ = 0;
  std::optional<std::int32_t> end_of_text_;
  mutable std::mutex mutex_;
  mutable PieceCache cache_;
};

}  // namespace

std::unique_ptr<Tokenizer> bpe_tokenizer(BpeParts parts) {
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

}  // namespace trireme
