#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace trireme {

/// Two adjacent tokens that may become one. Of the merges that are possible in a piece the one of
/// lowest rank, and of these the leftmost, comes first.
struct Merge {
  std::int32_t left = 0;
  std::int32_t right = 0;
  std::int32_t rank = 0;
  std::int32_t result = 0;
};

/// All that byte-pair encoding needs.
struct BpeTables {
  std::unordered_map<std::string, std::int32_t> ids;  ///< of tokens, by what they stand for
  std::vector<Merge> merges;                          ///< of equal pairs the last counts
  /// A piece begins as its bytes, otherwise as its characters.
  bool bytes = true;
  /// A piece that is a token is that token, whatever the merges make of it.
  bool whole_pieces = false;
  /// Characters without a token are the tokens <0x00> to <0xFF> of their bytes.
  bool byte_fallback = false;
  /// What else has no token; without it, an error.
  std::optional<std::int32_t> unknown;
  bool fuse_unknown = false;  ///< a run of unknown characters is one token
};

/// Byte-pair encoding (Sennrich et al. 2016) of one piece of text, in O(n log n) for n symbols.
/// Threads may share it.
class Bpe {
 public:
  explicit Bpe(BpeTables tables);

  /// Appends the tokens of `piece`. Throws DataError if something in it has no token.
  void append(std::string_view piece, std::vector<std::int32_t>& ids) const;

 private:
  struct Slot {
    std::uint64_t pair = kEmpty;
    std::int32_t rank = 0;
    std::int32_t result = 0;
  };
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};

  void index_merges();
  Slot& slot_of(std::uint64_t pair);
  const Slot* find(std::int32_t left, std::int32_t right) const;
  void append_bytes(std::string_view piece, std::vector<std::int32_t>& symbols) const;
  void append_characters(std::string_view piece, std::vector<std::int32_t>& symbols) const;
  void merge(std::vector<std::int32_t>& symbols) const;

  BpeTables tables_;
  std::vector<Slot> slots_;                      // a hash table with open addressing
  std::array<std::int32_t, 256> byte_ids_ = {};  // -1: none
  std::unordered_map<char32_t, std::int32_t> character_ids_;
  bool falls_back_ = false;
};

}  // namespace trireme
