#include "trireme/formats/token_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"
#include "trireme/base/sha256.h"
#include "trireme/formats/token_file_layout.h"

namespace trireme {

std::uint64_t checksum(std::string_view bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

// A mapped file, or memory of its own: [data(), data() + size()).
class TokenFile::Bytes {
 public:
  explicit Bytes(std::string memory) : memory_(std::move(memory)), view_(memory_) {}

  explicit Bytes(const std::filesystem::path& path) {
    const auto fail = [&](const char* verb) {
      throw DataError(fmt::format("{}: cannot {}: {}", path.string(), verb, std::strerror(errno)));
    };
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.is_open()) fail("open");
    struct stat status {};
    if (::fstat(file.fd(), &status) != 0) fail("read");
    if (!S_ISREG(status.st_mode)) {
      throw DataError(fmt::format("{}: must be a token file, is no file", path.string()));
    }
    if (status.st_size == 0) return;
    const auto size = static_cast<std::size_t>(status.st_size);
    void* mapped = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.fd(), 0);
    if (mapped == MAP_FAILED) fail("map");
    mapped_ = mapped;
    view_ = {static_cast<const char*>(mapped), size};
  }

  ~Bytes() {
    if (mapped_ != nullptr) ::munmap(mapped_, view_.size());
  }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;

  std::string_view view() const { return view_; }

 private:
  std::string memory_;
  void* mapped_ = nullptr;
  std::string_view view_;
};

TokenFile::TokenFile(const std::filesystem::path& path)
    : name_(path.string()), bytes_(std::make_unique<Bytes>(path)) {
  open();
}

TokenFile::TokenFile(std::string bytes, std::string name)
    : name_(std::move(name)), bytes_(std::make_unique<Bytes>(std::move(bytes))) {
  open();
}

TokenFile::~TokenFile() = default;
TokenFile::TokenFile(TokenFile&&) noexcept = default;
TokenFile& TokenFile::operator=(TokenFile&&) noexcept = default;

namespace {

// The bytes behind a header, or -1 if it is out of order.
std::int64_t bytes_behind(const TokenFileHeader& header) {
  if (header.vocabulary < 1 || header.vocabulary > kLargestVocabulary) return -1;
  if (header.bytes_per_token != (header.vocabulary <= kTwoByteVocabulary ? 2u : 4u)) return -1;
  constexpr std::int64_t kMost = std::int64_t{1} << 56;  // products below cannot overflow
  for (const std::int64_t count :
       {header.tokens, header.documents, header.tokenizer_bytes, header.text_bytes}) {
    if (count < 0 || count > kMost) return -1;
  }
  const std::int64_t tokens = header.tokens * header.bytes_per_token;
  return tokens + padding_behind(tokens) +
         header.documents * static_cast<std::int64_t>(sizeof(TokenDocument)) +
         header.tokenizer_bytes;
}

bool documents_are_in_order(const TokenFileHeader& header, std::span<const TokenDocument> table) {
  std::int64_t end = 0;
  std::int64_t text_bytes = 0;
  for (const TokenDocument& document : table) {
    if (document.end <= end || document.end > header.tokens) return false;
    if (document.prompt_length < 0 || document.prompt_length > document.end - end) return false;
    if (document.text_bytes < 0 || document.text_bytes > header.text_bytes - text_bytes) {
      return false;
    }
    end = document.end;
    text_bytes += document.text_bytes;
  }
  return end == header.tokens && text_bytes == header.text_bytes;
}

}  // namespace

void TokenFile::open() {
  const std::string_view bytes = bytes_->view();
  const auto fail = [&](const std::string& what) {
    throw DataError(fmt::format("{}: {}; make it again with trireme tokenize", name_, what));
  };
  header_ = std::make_unique<TokenFileHeader>();
  TokenFileHeader& header = *header_;
  if (bytes.size() < sizeof(header)) {
    fail(fmt::format("a token file has at least {} bytes, this has {}", sizeof(header),
                     bytes.size()));
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != kTokenFileMagic) fail("it is no token file");
  if (header.version != kTokenFileVersion) {
    fail(fmt::format("token files of version {} are known, this is of version {}",
                     kTokenFileVersion, header.version));
  }
  if (header.header_checksum != header_checksum(header)) fail("the header is damaged");
  const std::int64_t behind = bytes_behind(header);
  if (behind < 0) fail("the header contradicts itself");
  const auto has = static_cast<std::int64_t>(bytes.size() - sizeof(header));
  if (behind != has) {
    fail(fmt::format("{}: {} bytes must be behind the header, there are {}",
                     has < behind ? "the file is truncated" : "there is something behind its end",
                     behind, has));
  }
  tokens_ = bytes.data() + sizeof(header);
  const std::int64_t token_bytes = header.tokens * header.bytes_per_token;
  const std::string_view tail(tokens_ + token_bytes,
                              static_cast<std::size_t>(behind - token_bytes));
  if (header.tail_checksum != checksum(tail)) {
    fail("the table of documents or the tokenizer is damaged");
  }
  const auto padding = static_cast<std::size_t>(padding_behind(token_bytes));
  table_ = reinterpret_cast<const TokenDocument*>(tail.data() + padding);
  if (!documents_are_in_order(header, {table_, static_cast<std::size_t>(header.documents)})) {
    fail("the table of documents contradicts itself");
  }
  const std::size_t table_bytes =
      static_cast<std::size_t>(header.documents) * sizeof(TokenDocument);
  tokenizer_json_ = tail.substr(padding + table_bytes);
  if (tokenizer_digest() != sha256(tokenizer_json_)) fail("the digest of the tokenizer is wrong");
}

std::int64_t TokenFile::vocabulary() const {
  return header_->vocabulary;
}
std::int64_t TokenFile::tokens() const {
  return header_->tokens;
}
std::int64_t TokenFile::documents() const {
  return header_->documents;
}
std::int64_t TokenFile::text_bytes() const {
  return header_->text_bytes;
}
const std::string& TokenFile::tokenizer_json() const {
  return tokenizer_json_;
}

std::string TokenFile::tokenizer_digest() const {
  return fmt::format("{:02x}", fmt::join(header_->tokenizer_sha256, ""));
}

template <class Token>
void TokenFile::copy_as(std::int64_t first, std::span<std::int64_t> out) const {
  const char* from = tokens_ + first * static_cast<std::int64_t>(sizeof(Token));
  std::uint64_t largest = 0;
  for (std::int64_t& token : out) {
    Token value;
    std::memcpy(&value, from, sizeof(value));
    from += sizeof(value);
    largest = std::max<std::uint64_t>(largest, value);
    token = static_cast<std::int64_t>(value);
  }
  if (largest < static_cast<std::uint64_t>(header_->vocabulary)) return;
  throw DataError(fmt::format(
      "{}: damaged: tokens must be below {}, one of tokens {} to {} is {}; make it again with "
      "trireme tokenize",
      name_, header_->vocabulary, first, first + std::ssize(out) - 1, largest));
}

void TokenFile::copy(std::int64_t first, std::span<std::int64_t> out) const {
  if (first < 0 || first > tokens() || std::ssize(out) > tokens() - first) {
    throw UsageError(fmt::format("{}: tokens {} to {} are wanted of {}", name_, first,
                                 first + std::ssize(out) - 1, tokens()));
  }
  if (header_->bytes_per_token == 2) {
    copy_as<std::uint16_t>(first, out);
  } else {
    copy_as<std::uint32_t>(first, out);
  }
}

std::int32_t TokenFile::token(std::int64_t i) const {
  std::int64_t value = 0;
  copy(i, {&value, 1});
  return static_cast<std::int32_t>(value);
}

const TokenDocument& TokenFile::document(std::int64_t d) const {
  if (d >= 0 && d < documents()) return table_[d];
  throw UsageError(fmt::format("{}: document {} is wanted of {}", name_, d, documents()));
}

std::int64_t TokenFile::document_start(std::int64_t d) const {
  return d == 0 ? 0 : document(d - 1).end;
}

std::int64_t TokenFile::prompt_length(std::int64_t d) const {
  return document(d).prompt_length;
}
std::int64_t TokenFile::text_bytes(std::int64_t d) const {
  return document(d).text_bytes;
}

std::int64_t TokenFile::document_of(std::int64_t i) const {
  if (i < 0 || i >= tokens()) {
    throw UsageError(fmt::format("{}: token {} is wanted of {}", name_, i, tokens()));
  }
  const std::span<const TokenDocument> table(table_, static_cast<std::size_t>(documents()));
  return std::ranges::upper_bound(table, i, {}, &TokenDocument::end) - table.begin();
}

void TokenFile::verify() const {
  const auto size = static_cast<std::size_t>(tokens() * header_->bytes_per_token);
  if (checksum({tokens_, size}) == header_->token_checksum) return;
  throw DataError(fmt::format(
      "{}: the checksum of its tokens is wrong: they are damaged; make it again with trireme "
      "tokenize",
      name_));
}

}  // namespace trireme
