#include "trireme/formats/tokenizer/characters.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "trireme/base/error.h"
#include "trireme/formats/tokenizer/token_error.h"
#include "trireme/formats/tokenizer/utf8.h"

namespace trireme {

namespace {

class CharacterTokenizer final : public Tokenizer {
 public:
  explicit CharacterTokenizer(const std::set<char32_t>& characters)
      : characters_(characters.begin(), characters.end()) {
    for (std::size_t i = 0; i < characters_.size(); ++i) {
      id_of_.emplace(characters_[i], static_cast<std::int32_t>(i));
    }
  }

  void append(std::string_view text, SpecialTokens, std::vector<std::int32_t>& ids) const override {
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t begin = at;
      const char32_t character = next_character(text, at);
      if (character == kNotUtf8) throw not_utf8(name(), text, begin);
      const auto found = id_of_.find(character);
      if (found == id_of_.end()) {
        throw DataError(
            fmt::format("characters: {} at {} is none of the {} characters of the text that the "
                        "tokenizer was made from; remove it, make the tokenizer from a text that "
                        "has it, or use the tokenizer \"bytes\"",
                        shown_character(character), place_in(text, begin), characters_.size()));
      }
      ids.push_back(found->second);
    }
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text;
    for (const std::int32_t id : ids) {
      check_token(id, vocabulary(), name());
      if (id == end_of_text()) {
        text += kEndOfTextWord;
      } else {
        append_utf8(characters_[static_cast<std::size_t>(id)], text);
      }
    }
    return text;
  }

  std::int64_t vocabulary() const override { return std::ssize(characters_) + 1; }
  std::optional<std::int32_t> end_of_text() const override {
    return static_cast<std::int32_t>(characters_.size());
  }
  std::string name() const override { return "characters"; }

  std::string to_json() const override {
    std::string text;
    for (const char32_t character : characters_) append_utf8(character, text);
    return nlohmann::json{{"type", name()}, {"characters", text}}.dump();
  }

 private:
  std::vector<char32_t> characters_;  // ascending
  std::unordered_map<char32_t, std::int32_t> id_of_;
};

}  // namespace

std::unique_ptr<Tokenizer> character_tokenizer(const std::set<char32_t>& characters) {
  return std::make_unique<CharacterTokenizer>(characters);
}

void collect_characters(std::string_view text, std::set<char32_t>& characters) {
  // Most characters are ASCII: the set is asked once for each of them.
  std::array<bool, 128> seen = {};
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t character = next_character(text, at);
    if (character == kNotUtf8) throw not_utf8("characters", text, begin);
    if (character < seen.size()) {
      if (seen[character]) continue;
      seen[character] = true;
    }
    characters.insert(character);
  }
}

}  // namespace trireme
