#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace trireme {

struct TokenDocument;
struct TokenFileHeader;

/// The tokens of a text, document behind document, with the tokenizer that made them. The file is
/// mapped: opening reads its header, the table of documents and the tokenizer, and tokens are read
/// from the disk when they are asked for. TokenWriter writes it; docs/format/tokens.md has the
/// layout. A text that was tokenized in memory (tokenize_text) is the same object without a file.
///
///     const TokenFile file("bible.tokens");
///     std::vector<std::int64_t> window(257);
///     file.copy(position, window);
///
/// Threads may share it. A file must not be shortened while it is open: TokenWriter and others that
/// replace it by a rename do not. Little-endian machines only.
class TokenFile {
 public:
  /// Throws DataError if the file is truncated, damaged, of another version or no token file.
  explicit TokenFile(const std::filesystem::path& path);
  /// The bytes of a file; `name` stands for its path in errors. Throws as above.
  TokenFile(std::string bytes, std::string name);
  ~TokenFile();
  TokenFile(TokenFile&&) noexcept;
  TokenFile& operator=(TokenFile&&) noexcept;

  std::int64_t vocabulary() const;  ///< tokens are in [0, vocabulary())
  std::int64_t tokens() const;
  std::int64_t documents() const;

  /// Throws DataError if the value there is no token: the file is damaged.
  std::int32_t token(std::int64_t i) const;
  /// Fills `out` with the tokens from `first` on. Throws UsageError if the file has not that many,
  /// DataError as token().
  void copy(std::int64_t first, std::span<std::int64_t> out) const;

  /// The first token of a document; `d` may be documents(): there is tokens().
  std::int64_t document_start(std::int64_t d) const;
  /// The tokens at the start of the document that are read but not trained on.
  std::int64_t prompt_length(std::int64_t d) const;
  /// The document that token `i` is in.
  std::int64_t document_of(std::int64_t i) const;

  /// Bytes of the source text that the tokens stand for, for bits per byte: of all documents, of
  /// one, prompts included.
  std::int64_t text_bytes() const;
  std::int64_t text_bytes(std::int64_t d) const;

  const std::string& tokenizer_json() const;  ///< tokenizer_from_json() takes it
  std::string tokenizer_digest() const;       ///< its SHA-256, 64 hexadecimal digits

  /// Reads all tokens. Throws DataError if their checksum is wrong.
  void verify() const;

  const std::string& name() const { return name_; }  ///< the path

 private:
  class Bytes;

  void open();
  const TokenDocument& document(std::int64_t d) const;
  template <class Token>
  void copy_as(std::int64_t first, std::span<std::int64_t> out) const;

  std::string name_;
  std::unique_ptr<Bytes> bytes_;
  std::unique_ptr<TokenFileHeader> header_;
  const char* tokens_ = nullptr;          // [tokens * bytes_per_token]
  const TokenDocument* table_ = nullptr;  // [documents]
  std::string tokenizer_json_;
};

}  // namespace trireme
