#include "trireme/formats/tokenize_text.h"

#include <fmt/format.h>

#include <cmath>
#include <set>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/formats/gzip.h"
#include "trireme/formats/tokenizer/bytes.h"
#include "trireme/formats/tokenizer/characters.h"

namespace trireme {

namespace {

// Returns how many documents without text there are.
std::int64_t for_each_document(const std::vector<TextSource>& sources,
                               const DocumentOptions& options,
                               const std::function<void(const TextDocument&)>& use) {
  std::int64_t empty = 0;
  for (const TextSource& source : sources) {
    DocumentReader reader(source.open(), source.name, options);
    while (const auto document = reader.next()) use(*document);
    empty += reader.empty();
  }
  return empty;
}

std::int64_t count_documents(const std::vector<TextSource>& sources,
                             const DocumentOptions& options) {
  std::int64_t count = 0;
  for_each_document(sources, options, [&](const TextDocument&) { ++count; });
  return count;
}

// Where the last `share` of `text` begins: behind a line break if there is one in the first half of
// the text before that place, else behind a blank, else at a character.
std::size_t cut_of(std::string_view text, double share) {
  auto cut = static_cast<std::size_t>(static_cast<double>(text.size()) * (1 - share));
  const auto is_inside = [&] {
    return cut < text.size() && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80;
  };
  while (cut > 0 && is_inside()) --cut;
  for (const char separator : {'\n', ' '}) {
    const std::size_t found = text.substr(0, cut).rfind(separator);
    if (found != std::string_view::npos && found + 1 > cut / 2) return found + 1;
  }
  return cut;
}

class DocumentTokens {
 public:
  DocumentTokens(const Tokenizer& tokenizer, SpecialTokens special)
      : tokenizer_(tokenizer), special_(special), frame_(tokenizer.frame()) {
    if (const auto end = tokenizer.end_of_text(); end && frame_.after.empty()) {
      frame_.after.push_back(*end);
    }
  }

  void add(const TextDocument& document, std::string_view text, TokenWriter& writer) {
    if (text.empty()) return;
    try {
      ids_ = frame_.before;
      std::int64_t prompt_length = 0;
      if (!document.prompt.empty()) {
        tokenizer_.append(document.prompt, special_, ids_);
        prompt_length = std::ssize(ids_);
      }
      tokenizer_.append(text, special_, ids_);
      ids_.insert(ids_.end(), frame_.after.begin(), frame_.after.end());
      writer.add({.tokens = ids_,
                  .prompt_length = prompt_length,
                  .text_bytes = std::ssize(document.prompt) + std::ssize(text)});
    } catch (const DataError& error) {
      throw DataError(fmt::format("{}: {}", document.place, error.what()));
    }
  }

 private:
  const Tokenizer& tokenizer_;
  SpecialTokens special_;
  TextFrame frame_;
  std::vector<std::int32_t> ids_;
};

void require_documents(const TokenWriter& writer, const char* what) {
  if (writer.documents() > 0) return;
  throw DataError(fmt::format("tokenize: there is no text for {}: all documents are empty", what));
}

/// Bytes that live as long as a source looks at them.
class SharedBytes final : public ByteSource {
 public:
  explicit SharedBytes(std::shared_ptr<const std::string> text)
      : text_(std::move(text)), bytes_(bytes_of(*text_)) {}
  std::size_t read(std::span<char> out) override { return bytes_->read(out); }
  std::int64_t at_most() const override { return bytes_->at_most(); }

 private:
  std::shared_ptr<const std::string> text_;
  std::unique_ptr<ByteSource> bytes_;
};

}  // namespace

TextSource text_file(const std::filesystem::path& path) {
  return {path.string(), [path] { return open_maybe_gzip(path); }};
}

std::unique_ptr<Tokenizer> choose_tokenizer(const std::string& name,
                                            const std::vector<TextSource>& sources,
                                            const DocumentOptions& options) {
  if (name == "bytes") return byte_tokenizer();
  if (name != "characters") return read_tokenizer(name);
  std::set<char32_t> characters;
  for_each_document(sources, options, [&](const TextDocument& document) {
    collect_characters(document.prompt, characters);
    collect_characters(document.text, characters);
  });
  return character_tokenizer(characters);
}

TokenizeCounts tokenize(const std::vector<TextSource>& sources, const Tokenizer& tokenizer,
                        const TokenizeOptions& options, TokenWriter& training,
                        TokenWriter* validation) {
  const double share = options.holdout;
  if (!(share >= 0 && share < 1) || (share > 0) != (validation != nullptr)) {
    throw UsageError(fmt::format(
        "tokenize: the share held out for validation must be at least 0 and below 1, got {}",
        share));
  }
  const bool cuts =
      share > 0 && static_cast<double>(count_documents(sources, options.documents)) * share < 1;
  DocumentTokens tokens(tokenizer, options.special);
  std::int64_t index = 0;
  std::int64_t bytes = 0;
  const auto use = [&](const TextDocument& document) {
    const std::string_view text = document.text;
    const auto before = static_cast<double>(index++);
    if (cuts) {
      const std::size_t cut = cut_of(text, share);
      tokens.add(document, text.substr(0, cut), training);
      tokens.add(document, text.substr(cut), *validation);
    } else {
      const bool is_held_out = std::floor((before + 1) * share) > std::floor(before * share);
      tokens.add(document, text, is_held_out ? *validation : training);
    }
    bytes += std::ssize(document.prompt) + std::ssize(text);
    if (options.progress) {
      options.progress(bytes, training.tokens() + (validation ? validation->tokens() : 0));
    }
  };
  const std::int64_t empty = for_each_document(sources, options.documents, use);
  require_documents(training, "training");
  if (validation != nullptr) require_documents(*validation, "validation");
  return {empty};
}

TokenizedText tokenize_text(const std::vector<TextSource>& sources, const Tokenizer& tokenizer,
                            const TokenizeOptions& options) {
  TokenWriter training(tokenizer, "training text");
  if (options.holdout == 0) {
    tokenize(sources, tokenizer, options, training);
    return {training.take(), std::nullopt};
  }
  TokenWriter validation(tokenizer, "validation text");
  tokenize(sources, tokenizer, options, training, &validation);
  return {training.take(), validation.take()};
}

TokenizedText tokenize_text(const std::vector<TextSource>& sources, const std::string& tokenizer,
                            const TokenizeOptions& options) {
  return tokenize_text(sources, *choose_tokenizer(tokenizer, sources, options.documents), options);
}

TextSource text_in_memory(std::string name, std::string text) {
  const auto shared = std::make_shared<const std::string>(std::move(text));
  return {std::move(name), [shared]() -> std::unique_ptr<ByteSource> {
            return std::make_unique<SharedBytes>(shared);
          }};
}

}  // namespace trireme
