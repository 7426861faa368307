#include "trireme/formats/tokenizer/piece_cache.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace trireme {

namespace {

constexpr std::size_t kCacheSlots = std::size_t{1} << 16;

}  // namespace

PieceCache::PieceCache() : slots_(kCacheSlots) {}

std::uint32_t PieceCache::hash_of(std::string_view piece) {
  return static_cast<std::uint32_t>(XXH3_64bits(piece.data(), piece.size()));
}

bool PieceCache::append(std::string_view piece, std::vector<std::int32_t>& ids) const {
  const std::uint32_t hash = hash_of(piece);
  for (std::size_t at = hash % kCacheSlots;; at = (at + 1) % kCacheSlots) {
    const Slot& slot = slots_[at];
    if (slot.text_size == 0) return false;
    if (slot.hash != hash || piece != std::string_view(texts_).substr(slot.text, slot.text_size)) {
      continue;
    }
    const auto first = ids_.begin() + slot.ids;
    ids.insert(ids.end(), first, first + slot.ids_size);
    return true;
  }
}

void PieceCache::add(std::string_view piece, std::span<const std::int32_t> ids) {
  if (piece.empty() || piece.size() > kLongest) return;
  if (2 * used_ >= kCacheSlots) clear();
  const std::uint32_t hash = hash_of(piece);
  std::size_t at = hash % kCacheSlots;
  while (slots_[at].text_size != 0) at = (at + 1) % kCacheSlots;
  slots_[at] = {hash, static_cast<std::uint32_t>(texts_.size()),
                static_cast<std::uint32_t>(ids_.size()), static_cast<std::uint16_t>(piece.size()),
                static_cast<std::uint16_t>(ids.size())};
  texts_ += piece;
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  ++used_;
}

void PieceCache::clear() {
  slots_.assign(kCacheSlots, {});
  used_ = 0;
  texts_.clear();
  ids_.clear();
}

}  // namespace trireme
