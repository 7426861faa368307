// Any bytes as a token file, as they are and with checksums that are right: documents that cover
// the tokens in order, or a DataError.
#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/sha256.h"
#include "trireme/formats/token_file.h"
#include "trireme/formats/token_file_layout.h"

namespace {

void read_all(const std::string& bytes) {
  try {
    const trireme::TokenFile file(bytes, "fuzz.tokens");
    std::int64_t text_bytes = 0;
    for (std::int64_t d = 0; d < file.documents(); ++d) {
      const std::int64_t length = file.document_start(d + 1) - file.document_start(d);
      if (length < 1 || file.prompt_length(d) > length) std::abort();
      if (file.document_of(file.document_start(d)) != d) std::abort();
      text_bytes += file.text_bytes(d);
    }
    if (file.document_start(file.documents()) != file.tokens()) std::abort();
    if (text_bytes != file.text_bytes()) std::abort();
    std::vector<std::int64_t> tokens(static_cast<std::size_t>(file.tokens()));
    file.copy(0, tokens);
    if (std::ranges::any_of(tokens, [&](std::int64_t t) { return t >= file.vocabulary(); })) {
      std::abort();
    }
    file.verify();
  } catch (const trireme::DataError&) {
  }
}

// Makes what guards a file right, so that what lies behind it is reached.
std::string with_checksums(std::string bytes) {
  trireme::TokenFileHeader header;
  if (bytes.size() < sizeof(header)) return bytes;
  std::memcpy(&header, bytes.data(), sizeof(header));
  const std::string_view body = std::string_view(bytes).substr(sizeof(header));
  const std::uint64_t tokens = static_cast<std::uint64_t>(header.tokens) * header.bytes_per_token;
  header.tail_checksum =
      trireme::checksum(body.substr(std::min<std::uint64_t>(tokens, body.size())));
  const auto json =
      std::min<std::uint64_t>(static_cast<std::uint64_t>(header.tokenizer_bytes), body.size());
  const std::string digest = trireme::sha256(body.substr(body.size() - json));
  for (std::size_t i = 0; i < header.tokenizer_sha256.size(); ++i) {
    std::from_chars(&digest[2 * i], &digest[2 * i] + 2, header.tokenizer_sha256[i], 16);
  }
  header.header_checksum = trireme::header_checksum(header);
  std::memcpy(bytes.data(), &header, sizeof(header));
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  read_all(bytes);
  read_all(with_checksums(bytes));
  return 0;
}
