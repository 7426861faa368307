#pragma once

#include <memory>
#include <set>
#include <string_view>
#include <vector>

#include "trireme/formats/tokenizer/tokenizer.h"

namespace trireme {

/// A token for each character of a text, in the order of their code points, and one behind them for
/// the end of a document.
std::unique_ptr<Tokenizer> character_tokenizer(const std::set<char32_t>& characters);

/// Adds the characters of `text`. Throws DataError if it is not UTF-8.
void collect_characters(std::string_view text, std::set<char32_t>& characters);

}  // namespace trireme
