#include "trireme/formats/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "trireme/formats/tokenizer/unicode_classes.h"
#include "trireme/formats/tokenizer/utf8.h"

namespace trireme {

namespace {

// Where the character in front of `at` begins.
std::size_t before(std::string_view text, std::size_t at) {
  do --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

char32_t character_at(std::string_view text, std::size_t at) {
  return next_character(text, at);
}

bool is_single_word(std::string_view text, std::size_t begin, std::size_t end) {
  const bool joins_left = begin > 0 && is_word_character(character_at(text, before(text, begin)));
  const bool joins_right = end < text.size() && is_word_character(character_at(text, end));
  return !joins_left && !joins_right;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::ranges::stable_sort(tokens_, [](const AddedToken& a, const AddedToken& b) {
    return a.content.size() > b.content.size();
  });
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const std::string& content = tokens_[i].content;
    if (!content.empty()) starting_[static_cast<unsigned char>(content.front())].push_back(i);
  }
}

const AddedToken* AddedTokens::token_at(std::string_view text, std::size_t at,
                                        SpecialTokens special) const {
  for (const std::size_t i : starting_[static_cast<unsigned char>(text[at])]) {
    const AddedToken& token = tokens_[i];
    if (token.special && special == SpecialTokens::kAsText) continue;
    if (text.substr(at).starts_with(token.content)) return &token;
  }
  return nullptr;
}

std::vector<TextSegment> AddedTokens::split(std::string_view text, SpecialTokens special) const {
  std::vector<TextSegment> segments;
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size();) {
    const AddedToken* token = token_at(text, at, special);
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at;
    std::size_t end = at + token->content.size();
    at = end;
    if (token->single_word && !is_single_word(text, begin, end)) continue;
    while (token->lstrip && begin > done && is_space(character_at(text, before(text, begin)))) {
      begin = std::max(done, before(text, begin));
    }
    while (token->rstrip && end < text.size()) {
      std::size_t next = end;
      if (!is_space(next_character(text, next))) break;
      end = next;
    }
    if (begin > done) segments.push_back({done, begin, std::nullopt});
    segments.push_back({begin, end, token->id});
    done = end;
    at = std::max(at, end);
  }
  if (done < text.size()) segments.push_back({done, text.size(), std::nullopt});
  return segments;
}

}  // namespace trireme
