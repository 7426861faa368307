#include "trireme/formats/tokenizer/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <queue>
#include <tuple>

#include "trireme/base/error.h"
#include "trireme/base/hash.h"
#include "trireme/formats/tokenizer/token_error.h"
#include "trireme/formats/tokenizer/utf8.h"

namespace trireme {

namespace {

std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) |
         static_cast<std::uint32_t>(right);
}

// A symbol among those that are left of a piece. Its neighbors are -1 where there are none.
struct Node {
  std::int32_t symbol;  // -1: merged into the one on its left
  std::int64_t previous;
  std::int64_t next;
};

struct Candidate {
  std::int32_t rank;
  std::int64_t left;  // the node
  std::int32_t left_symbol;
  std::int32_t right_symbol;
  std::int32_t result;
};

struct ComesLater {
  bool operator()(const Candidate& a, const Candidate& b) const {
    return std::tie(a.rank, a.left) > std::tie(b.rank, b.left);
  }
};

}  // namespace

Bpe::Bpe(BpeTables tables) : tables_(std::move(tables)) {
  index_merges();
  const auto id_of = [&](const std::string& token) {
    const auto found = tables_.ids.find(token);
    return found == tables_.ids.end() ? -1 : found->second;
  };
  for (int byte = 0; byte < 256; ++byte) {
    byte_ids_[static_cast<std::size_t>(byte)] = id_of(
        tables_.bytes ? std::string(1, static_cast<char>(byte)) : fmt::format("<0x{:02X}>", byte));
  }
  for (const auto& [token, id] : tables_.ids) {
    std::size_t end = 0;
    if (token.empty()) continue;
    const char32_t character = next_character(token, end);
    if (end == token.size() && character != kNotUtf8) character_ids_.emplace(character, id);
  }
  falls_back_ = tables_.byte_fallback && std::ranges::count(byte_ids_, -1) == 0;
}

void Bpe::index_merges() {
  slots_.resize(std::bit_ceil(2 * tables_.merges.size() + 2));
  for (const Merge& merge : tables_.merges) {
    const std::uint64_t pair = pair_of(merge.left, merge.right);
    slot_of(pair) = {pair, merge.rank, merge.result};
  }
  tables_.merges = {};
}

Bpe::Slot& Bpe::slot_of(std::uint64_t pair) {
  std::size_t at = mix_bits(pair) & (slots_.size() - 1);
  while (slots_[at].pair != kEmpty && slots_[at].pair != pair) at = (at + 1) & (slots_.size() - 1);
  return slots_[at];
}

const Bpe::Slot* Bpe::find(std::int32_t left, std::int32_t right) const {
  const std::uint64_t pair = pair_of(left, right);
  std::size_t at = mix_bits(pair) & (slots_.size() - 1);
  while (slots_[at].pair != pair) {
    if (slots_[at].pair == kEmpty) return nullptr;
    at = (at + 1) & (slots_.size() - 1);
  }
  return &slots_[at];
}

void Bpe::append(std::string_view piece, std::vector<std::int32_t>& ids) const {
  if (tables_.whole_pieces) {
    const auto found = tables_.ids.find(std::string(piece));
    if (found != tables_.ids.end()) return ids.push_back(found->second);
  }
  std::vector<std::int32_t> symbols;
  if (tables_.bytes) {
    append_bytes(piece, symbols);
  } else {
    append_characters(piece, symbols);
  }
  merge(symbols);
  ids.insert(ids.end(), symbols.begin(), symbols.end());
}

void Bpe::append_bytes(std::string_view piece, std::vector<std::int32_t>& symbols) const {
  bool is_in_unknown = false;
  for (const char c : piece) {
    const std::int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    if (id < 0 && !tables_.unknown) {
      throw DataError(fmt::format("the tokenizer has no token for the byte 0x{:02X}",
                                  static_cast<unsigned char>(c)));
    }
    if (id >= 0 || !is_in_unknown || !tables_.fuse_unknown) {
      symbols.push_back(id >= 0 ? id : *tables_.unknown);
    }
    is_in_unknown = id < 0;
  }
}

void Bpe::append_characters(std::string_view piece, std::vector<std::int32_t>& symbols) const {
  bool is_in_unknown = false;
  for (std::size_t at = 0; at < piece.size();) {
    const std::size_t begin = at;
    const char32_t character = next_character(piece, at);
    const std::string_view bytes = piece.substr(begin, at - begin);
    const auto found = character_ids_.find(character);
    if (found != character_ids_.end()) {
      symbols.push_back(found->second);
    } else if (falls_back_) {
      for (const char c : bytes) symbols.push_back(byte_ids_[static_cast<unsigned char>(c)]);
    } else if (tables_.unknown) {
      if (!is_in_unknown || !tables_.fuse_unknown) symbols.push_back(*tables_.unknown);
      is_in_unknown = true;
      continue;
    } else {
      throw DataError(fmt::format("the tokenizer has no token for {}", shown_character(character)));
    }
    is_in_unknown = false;
  }
}

void Bpe::merge(std::vector<std::int32_t>& symbols) const {
  const std::int64_t size = std::ssize(symbols);
  if (size < 2) return;
  std::vector<Node> nodes(symbols.size());
  for (std::int64_t i = 0; i < size; ++i) {
    nodes[static_cast<std::size_t>(i)] = {symbols[static_cast<std::size_t>(i)], i - 1,
                                          i + 1 < size ? i + 1 : -1};
  }
  const auto node = [&](std::int64_t i) -> Node& { return nodes[static_cast<std::size_t>(i)]; };
  std::priority_queue<Candidate, std::vector<Candidate>, ComesLater> candidates;
  const auto consider = [&](std::int64_t left) {
    if (left < 0 || node(left).next < 0) return;
    const std::int32_t a = node(left).symbol;
    const std::int32_t b = node(node(left).next).symbol;
    if (const Slot* slot = find(a, b)) candidates.push({slot->rank, left, a, b, slot->result});
  };
  for (std::int64_t i = 0; i + 1 < size; ++i) consider(i);
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Node& left = node(best.left);
    // Another merge may have changed one of the two since.
    if (left.symbol != best.left_symbol || left.next < 0) continue;
    Node& right = node(left.next);
    if (right.symbol != best.right_symbol) continue;
    left.symbol = best.result;
    right.symbol = -1;
    left.next = right.next;
    if (left.next >= 0) node(left.next).previous = best.left;
    consider(best.left);
    consider(left.previous);
  }
  symbols.clear();
  for (std::int64_t i = 0; i >= 0; i = node(i).next) symbols.push_back(node(i).symbol);
}

}  // namespace trireme
