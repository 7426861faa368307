#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trireme {

/// The tokens of pieces that came before: the words of a text repeat. Holds some 32,000 pieces in a
/// few MB; when it is full it begins again.
class PieceCache {
 public:
  PieceCache();

  /// What longer pieces are is not worth remembering.
  static constexpr std::size_t kLongest = 64;

  /// Appends the tokens of `piece` and returns true if they are known.
  bool append(std::string_view piece, std::vector<std::int32_t>& ids) const;
  void add(std::string_view piece, std::span<const std::int32_t> ids);

 private:
  struct Slot {
    std::uint32_t hash = 0;
    std::uint32_t text = 0;       // where the piece begins in texts_
    std::uint32_t ids = 0;        // where its tokens begin in ids_
    std::uint16_t text_size = 0;  // 0: an empty slot
    std::uint16_t ids_size = 0;
  };

  static std::uint32_t hash_of(std::string_view piece);
  void clear();

  std::vector<Slot> slots_;  // a hash table with open addressing, at most half full
  std::size_t used_ = 0;
  std::string texts_;
  std::vector<std::int32_t> ids_;
};

}  // namespace trireme
