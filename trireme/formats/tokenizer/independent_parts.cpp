#include "trireme/formats/tokenizer/independent_parts.h"

#include <fmt/format.h>

#include <optional>
#include <string>
#include <unordered_map>

#include "trireme/formats/tokenizer/utf8.h"

namespace trireme {

namespace {

std::uint64_t neighbors(char32_t left, char32_t right) {
  return (std::uint64_t{left} << 32) | right;
}

// Byte tokens have names of their own: what they may be merged to is not seen in characters.
bool merges_byte_tokens(const BpeTables& tables) {
  std::unordered_set<std::int32_t> bytes;
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = tables.ids.find(fmt::format("<0x{:02X}>", byte));
    if (found != tables.ids.end()) bytes.insert(found->second);
  }
  for (const Merge& merge : tables.merges) {
    if (bytes.contains(merge.left) || bytes.contains(merge.right)) return true;
  }
  return false;
}

}  // namespace

IndependentParts::IndependentParts(const BpeTables& tables) {
  // Whole pieces and runs of unknown characters are tokens by more than merges.
  const bool fuses = tables.fuse_unknown && !tables.byte_fallback;
  may_cut_ = !tables.bytes && !tables.whole_pieces && !fuses && !merges_byte_tokens(tables);
  if (!may_cut_) return;
  std::unordered_map<std::int32_t, std::string_view> texts;
  for (const auto& [token, id] : tables.ids) texts[id] = token;
  for (const Merge& merge : tables.merges) {
    const auto found = texts.find(merge.result);
    if (found == texts.end()) {
      may_cut_ = false;
      return;
    }
    add_neighbors(found->second);
  }
}

void IndependentParts::add_neighbors(std::string_view token) {
  std::optional<char32_t> left;
  for (std::size_t at = 0; at < token.size();) {
    const char32_t right = next_character(token, at);
    if (left) neighbors_.insert(neighbors(*left, right));
    left = right;
  }
}

void IndependentParts::for_each(std::string_view piece,
                                const std::function<void(std::string_view)>& use) const {
  if (!may_cut_ || piece.empty()) return use(piece);
  std::size_t at = 0;
  std::size_t begin = 0;
  char32_t left = next_character(piece, at);
  while (at < piece.size()) {
    const std::size_t place = at;
    const char32_t right = next_character(piece, at);
    if (!neighbors_.contains(neighbors(left, right))) {
      use(piece.substr(begin, place - begin));
      begin = place;
    }
    left = right;
  }
  use(piece.substr(begin));
}

}  // namespace trireme
