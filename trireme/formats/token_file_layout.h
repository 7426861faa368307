#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <string_view>

namespace trireme {

// The parts of a token file, as docs/format/tokens.md describes them.
static_assert(std::endian::native == std::endian::little);

constexpr std::array<char, 8> kTokenFileMagic = {'t', 'r', 't', 'o', 'k', 'e', 'n', 's'};
constexpr std::uint32_t kTokenFileVersion = 1;
constexpr std::int64_t kTwoByteVocabulary = 65536;
constexpr std::int64_t kLargestVocabulary = std::int64_t{1} << 31;

struct TokenFileHeader {
  std::array<char, 8> magic = kTokenFileMagic;
  std::uint32_t version = kTokenFileVersion;
  std::uint32_t bytes_per_token = 0;
  std::int64_t vocabulary = 0;
  std::int64_t tokens = 0;
  std::int64_t documents = 0;
  std::int64_t text_bytes = 0;
  std::int64_t tokenizer_bytes = 0;
  std::array<unsigned char, 32> tokenizer_sha256 = {};
  std::uint64_t token_checksum = 0;  // of the tokens
  std::uint64_t tail_checksum = 0;   // of all that stands behind them
  std::array<char, 16> reserved = {};
  std::uint64_t header_checksum = 0;  // of all before it
};
static_assert(sizeof(TokenFileHeader) == 128);

struct TokenDocument {
  std::int64_t end = 0;  // the token behind its last
  std::int64_t prompt_length = 0;
  std::int64_t text_bytes = 0;
};
static_assert(sizeof(TokenDocument) == 24);

/// What makes the `bytes` of the tokens a multiple of 8.
constexpr std::int64_t padding_behind(std::int64_t bytes) {
  return (8 - bytes % 8) % 8;
}

inline std::string_view bytes_of_header(const TokenFileHeader& header) {
  return {reinterpret_cast<const char*>(&header), sizeof(header)};
}

/// XXH3, 64 bits, seed 0.
std::uint64_t checksum(std::string_view bytes);

inline std::uint64_t header_checksum(const TokenFileHeader& header) {
  constexpr std::size_t kChecked = sizeof(header) - sizeof(header.header_checksum);
  return checksum(bytes_of_header(header).substr(0, kChecked));
}

}  // namespace trireme
