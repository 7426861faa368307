#include "trireme/formats/token_writer.h"

#include <fmt/format.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "trireme/base/atomic_file.h"
#include "trireme/base/error.h"
#include "trireme/base/sha256.h"
#include "trireme/formats/token_file_layout.h"

namespace trireme {

class TokenWriter::Output {
 public:
  virtual ~Output() = default;
  virtual void append(std::string_view bytes) = 0;
  virtual void overwrite_header(std::string_view bytes) = 0;
  virtual void commit() {}
  virtual std::string take() { return {}; }
};

class TokenWriter::FileOutput final : public Output {
 public:
  FileOutput(const std::filesystem::path& path, Files& files) : file_(path, files) {}
  void append(std::string_view bytes) override { file_.write(bytes); }
  void overwrite_header(std::string_view bytes) override { file_.overwrite(0, bytes); }
  void commit() override { file_.commit(); }

 private:
  AtomicFile file_;
};

class TokenWriter::MemoryOutput final : public Output {
 public:
  void append(std::string_view bytes) override { bytes_ += bytes; }
  void overwrite_header(std::string_view bytes) override { bytes_.replace(0, bytes.size(), bytes); }
  std::string take() override { return std::exchange(bytes_, {}); }

 private:
  std::string bytes_;
};

struct TokenWriter::State {
  std::string name;
  std::string tokenizer_json;
  TokenFileHeader header;
  std::vector<TokenDocument> documents;
  std::string chunk;  // tokens that are not written yet
  XXH3_state_t* hash = XXH3_createState();

  State() { XXH3_64bits_reset(hash); }
  ~State() { XXH3_freeState(hash); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

namespace {

constexpr std::size_t kTokenChunkBytes = std::size_t{1} << 20;

std::array<unsigned char, 32> bytes_of_hex(std::string_view digits) {
  std::array<unsigned char, 32> bytes = {};
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::from_chars(digits.data() + 2 * i, digits.data() + 2 * i + 2, bytes[i], 16);
  }
  return bytes;
}

void append_token(std::int32_t token, std::uint32_t bytes_per_token, std::string& bytes) {
  const auto value = static_cast<std::uint32_t>(token);
  for (std::uint32_t i = 0; i < bytes_per_token; ++i) {
    bytes += static_cast<char>(value >> (8 * i));
  }
}

}  // namespace

TokenWriter::TokenWriter(const std::filesystem::path& path, const Tokenizer& tokenizer,
                         Files& files)
    : TokenWriter(std::make_unique<FileOutput>(path, files), tokenizer, path.string()) {}

TokenWriter::TokenWriter(const Tokenizer& tokenizer, std::string name)
    : TokenWriter(std::make_unique<MemoryOutput>(), tokenizer, std::move(name)) {}

TokenWriter::TokenWriter(std::unique_ptr<Output> output, const Tokenizer& tokenizer,
                         std::string name)
    : output_(std::move(output)), state_(std::make_unique<State>()) {
  state_->name = std::move(name);
  state_->tokenizer_json = tokenizer.to_json();
  TokenFileHeader& header = state_->header;
  header.vocabulary = tokenizer.vocabulary();
  header.bytes_per_token = header.vocabulary <= kTwoByteVocabulary ? 2 : 4;
  header.tokenizer_bytes = std::ssize(state_->tokenizer_json);
  header.tokenizer_sha256 = bytes_of_hex(sha256(state_->tokenizer_json));
  output_->append(bytes_of_header(header));
}

TokenWriter::~TokenWriter() = default;

std::int64_t TokenWriter::tokens() const {
  return state_->header.tokens;
}
std::int64_t TokenWriter::documents() const {
  return std::ssize(state_->documents);
}
std::int64_t TokenWriter::text_bytes() const {
  return state_->header.text_bytes;
}

void TokenWriter::add(const Document& document) {
  State& state = *state_;
  TokenFileHeader& header = state.header;
  const std::int64_t count = std::ssize(document.tokens);
  if (count == 0 || document.prompt_length < 0 || document.prompt_length > count ||
      document.text_bytes < 0) {
    throw UsageError(fmt::format(
        "{}: a document must have tokens and a prompt within them, got {} tokens, a prompt of {}, "
        "{} bytes of text",
        state.name, count, document.prompt_length, document.text_bytes));
  }
  const auto [least, most] = std::ranges::minmax(document.tokens);
  if (least < 0 || most >= header.vocabulary) {
    throw UsageError(fmt::format("{}: tokens must be from 0 to {}, got {}", state.name,
                                 header.vocabulary - 1, least < 0 ? least : most));
  }
  for (const std::int32_t token : document.tokens) {
    append_token(token, header.bytes_per_token, state.chunk);
    if (state.chunk.size() >= kTokenChunkBytes) flush();
  }
  header.tokens += count;
  header.text_bytes += document.text_bytes;
  state.documents.push_back({header.tokens, document.prompt_length, document.text_bytes});
}

void TokenWriter::flush() {
  XXH3_64bits_update(state_->hash, state_->chunk.data(), state_->chunk.size());
  output_->append(state_->chunk);
  state_->chunk.clear();
}

void TokenWriter::finish() {
  State& state = *state_;
  TokenFileHeader& header = state.header;
  flush();
  header.documents = std::ssize(state.documents);
  header.token_checksum = XXH3_64bits_digest(state.hash);
  const std::int64_t padding = padding_behind(header.tokens * header.bytes_per_token);
  std::string tail(static_cast<std::size_t>(padding), '\0');
  tail.append(reinterpret_cast<const char*>(state.documents.data()),
              state.documents.size() * sizeof(TokenDocument));
  tail += state.tokenizer_json;
  header.tail_checksum = checksum(tail);
  header.header_checksum = header_checksum(header);
  output_->append(tail);
  output_->overwrite_header(bytes_of_header(header));
}

void TokenWriter::commit() {
  finish();
  output_->commit();
}

TokenFile TokenWriter::take() {
  finish();
  return {output_->take(), state_->name};
}

}  // namespace trireme
