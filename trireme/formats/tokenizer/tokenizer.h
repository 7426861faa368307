#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trireme {

/// What a special token, such as "<|endoftext|>", is that is written out in a text.
enum class SpecialTokens {
  kRecognized,  ///< the token
  kAsText,      ///< ordinary text, for texts whose authors are not trusted
};

/// The tokens around a text: Llama's texts begin with <s>.
struct TextFrame {
  std::vector<std::int32_t> before;
  std::vector<std::int32_t> after;
};

/// Text to token ids, and back.
///
///     const auto tokenizer = read_tokenizer("tokenizer.json");
///     const std::vector<std::int32_t> ids = tokenizer->encode("In the beginning");
///     const std::string text = tokenizer->decode(ids);
///
/// Threads may share a tokenizer.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Appends the ids of `text`, which is UTF-8, without the frame. Throws DataError if `text` holds
  /// what has no token.
  virtual void append(std::string_view text, SpecialTokens special,
                      std::vector<std::int32_t>& ids) const = 0;
  /// The ids of `text` between those of the frame. Throws as append().
  std::vector<std::int32_t> encode(std::string_view text,
                                   SpecialTokens special = SpecialTokens::kRecognized) const;

  /// The bytes that `ids` stand for; special tokens as they are written. They are UTF-8 if `ids`
  /// end where a character ends. Throws UsageError on an id outside [0, vocabulary()).
  virtual std::string decode(std::span<const std::int32_t> ids) const = 0;

  /// Ids are in [0, vocabulary()).
  virtual std::int64_t vocabulary() const = 0;
  /// What stands behind each document, if the tokenizer has a token for it.
  virtual std::optional<std::int32_t> end_of_text() const = 0;
  virtual TextFrame frame() const { return {}; }
  /// "characters", "bytes" or "bpe".
  virtual std::string name() const = 0;
  /// What tokenizer_from_json makes the same tokenizer of.
  virtual std::string to_json() const = 0;
};

/// Makes a tokenizer of a JSON text: to_json() of any tokenizer, an encoder of the npm package
/// tiktoken, or a Hugging Face tokenizer.json of type BPE. docs/text.md lists the components of the
/// latter that are known. `name` begins errors. Throws DataError if the text is none of these or
/// has a component that is not known.
std::unique_ptr<Tokenizer> tokenizer_from_json(std::string_view json,
                                               std::string_view name = "tokenizer");

/// The same from a file, gzip or not.
std::unique_ptr<Tokenizer> read_tokenizer(const std::filesystem::path& path);

}  // namespace trireme
