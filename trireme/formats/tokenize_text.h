#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trireme/formats/text_documents.h"
#include "trireme/formats/token_file.h"
#include "trireme/formats/token_writer.h"
#include "trireme/formats/tokenizer/tokenizer.h"

namespace trireme {

/// A text that can be opened more than once.
struct TextSource {
  std::string name;
  std::function<std::unique_ptr<ByteSource>()> open;
};
/// A file, gzip or not.
TextSource text_file(const std::filesystem::path& path);
/// `name` stands for its path in errors.
TextSource text_in_memory(std::string name, std::string text);

struct TokenizeOptions {
  DocumentOptions documents;
  SpecialTokens special = SpecialTokens::kRecognized;
  /// The share of the text that is kept for validation, in [0, 1): each of so many documents,
  /// evenly spread; where there are too few documents, the last part of each.
  double holdout = 0;
  /// Called now and then with what was done so far.
  std::function<void(std::int64_t text_bytes, std::int64_t tokens)> progress;
};

/// Returns the tokenizer "characters", which is made of all characters of the sources, "bytes", or
/// the one in the file of that name.
std::unique_ptr<Tokenizer> choose_tokenizer(const std::string& name,
                                            const std::vector<TextSource>& sources,
                                            const DocumentOptions& options);

struct TokenizeCounts {
  std::int64_t empty = 0;  ///< documents without text, which are left out
};

/// Adds the documents of the sources to `training` and, if options.holdout is not 0, to
/// `validation`, which must then not be null. A document is the tokenizer's frame around prompt and
/// text; where the frame has nothing behind the text, end_of_text() ends it. The sources are read
/// once, or twice with a holdout. Throws DataError if a text cannot be read or tokenized, or if one
/// of the two gets no document.
TokenizeCounts tokenize(const std::vector<TextSource>& sources, const Tokenizer& tokenizer,
                        const TokenizeOptions& options, TokenWriter& training,
                        TokenWriter* validation = nullptr);

struct TokenizedText {
  TokenFile training;
  std::optional<TokenFile> validation;  ///< if options.holdout is not 0
};

/// The same in memory.
TokenizedText tokenize_text(const std::vector<TextSource>& sources, const Tokenizer& tokenizer,
                            const TokenizeOptions& options = {});
/// With choose_tokenizer(): tokenizer_json() of the result makes the same tokenizer again.
TokenizedText tokenize_text(const std::vector<TextSource>& sources, const std::string& tokenizer,
                            const TokenizeOptions& options = {});

}  // namespace trireme
