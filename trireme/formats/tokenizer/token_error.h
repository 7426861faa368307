#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "trireme/base/error.h"

namespace trireme {

/// How tokenizers that have no word of their own for the end of a document write it.
constexpr std::string_view kEndOfTextWord = "<|endoftext|>";

/// "byte 17 (line 2)" for the byte at `offset` of `text`, both from 1.
std::string place_in(std::string_view text, std::size_t offset);

/// An error for the byte at `offset`, which is not UTF-8. `who` begins it.
DataError not_utf8(std::string_view who, std::string_view text, std::size_t offset);

/// Throws UsageError unless `id` is in [0, vocabulary).
void check_token(std::int32_t id, std::int64_t vocabulary, std::string_view who);

}  // namespace trireme
