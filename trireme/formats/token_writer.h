#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "trireme/base/files.h"
#include "trireme/formats/token_file.h"
#include "trireme/formats/tokenizer/tokenizer.h"

namespace trireme {

/// Writes a token file, document by document: the tokens go to the file at once, 24 bytes for each
/// document stay in memory.
///
///     TokenWriter writer("bible.tokens", *tokenizer);
///     writer.add({.tokens = ids, .text_bytes = std::ssize(text)});
///     writer.commit();
///
/// The file appears under its name as a whole or not at all (AtomicFile). Every function throws
/// DataError if the file cannot be written.
class TokenWriter {
 public:
  TokenWriter(const std::filesystem::path& path, const Tokenizer& tokenizer,
              Files& files = real_files());
  /// Writes to memory; `name` stands for a path in errors.
  explicit TokenWriter(const Tokenizer& tokenizer, std::string name = "tokens in memory");
  ~TokenWriter();

  struct Document {
    std::span<const std::int32_t> tokens;
    std::int64_t prompt_length = 0;  ///< tokens at the start that are not trained on
    std::int64_t text_bytes = 0;     ///< that the tokens stand for
  };
  /// Throws UsageError if the document has no tokens, fewer than its prompt or others than the
  /// tokenizer's.
  void add(const Document& document);

  std::int64_t tokens() const;
  std::int64_t documents() const;
  std::int64_t text_bytes() const;

  /// Ends a file.
  void commit();
  /// Ends what was written to memory and returns it.
  TokenFile take();

 private:
  struct State;
  class Output;
  class FileOutput;
  class MemoryOutput;

  TokenWriter(std::unique_ptr<Output> output, const Tokenizer& tokenizer, std::string name);
  void flush();
  void finish();

  std::unique_ptr<Output> output_;
  std::unique_ptr<State> state_;
};

}  // namespace trireme
