#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/formats/tokenizer/tokenizer.h"

namespace trireme {

/// A token that is found in a text before anything else, with the fields of Hugging Face's
/// tokenizer.json.
struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool special = false;
  bool normalized = false;   ///< is looked for in the normalized text
  bool single_word = false;  ///< not inside a word
  bool lstrip = false;       ///< blanks before it belong to it
  bool rstrip = false;       ///< blanks behind it belong to it
};

/// Bytes [begin, end) of a text: a token, or text between tokens.
struct TextSegment {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::optional<std::int32_t> id;
};

/// Finds added tokens: the leftmost, and of those that begin there the longest. Threads may share
/// it.
class AddedTokens {
 public:
  explicit AddedTokens(std::vector<AddedToken> tokens);

  /// Cuts all of `text` into segments. With kAsText, special tokens are text.
  std::vector<TextSegment> split(std::string_view text, SpecialTokens special) const;

 private:
  const AddedToken* token_at(std::string_view text, std::size_t at, SpecialTokens special) const;

  std::vector<AddedToken> tokens_;                      // by their first byte, the longest first
  std::array<std::vector<std::size_t>, 256> starting_;  // indices of tokens_
};

}  // namespace trireme
