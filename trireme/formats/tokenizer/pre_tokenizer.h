#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace trireme {

/// Part of a text. Merges do not cross its ends.
struct TextPiece {
  std::string_view text;
  bool begins_text = false;  ///< nothing is before it
};

/// Cuts a piece into smaller ones. Threads may share it.
class PreTokenizer {
 public:
  using Use = std::function<void(TextPiece)>;

  virtual ~PreTokenizer() = default;
  /// Calls `use` with the pieces in order; they may be looked at until it returns.
  virtual void split(TextPiece piece, const Use& use) const = 0;
  /// Pieces come out as bytes, which Hugging Face writes as 256 characters, and tokens are bytes.
  virtual bool is_byte_level() const { return false; }
};

/// Makes Hugging Face's ByteLevel, Metaspace, Split or Sequence of them; null of null. Throws
/// DataError with the name of another.
std::unique_ptr<PreTokenizer> pre_tokenizer_of(const nlohmann::json& json);

/// Pieces are the matches of `expression` and what is between them; tokens are bytes.
std::unique_ptr<PreTokenizer> byte_pieces(const std::string& expression);

}  // namespace trireme
