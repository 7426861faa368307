#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace trireme {

/// Returns the bytes that `token` stands for where each byte is written as a character that can be
/// seen, as GPT-2 does (Radford et al. 2019); nothing if it has other characters.
std::optional<std::string> bytes_of_byte_level(std::string_view token);

}  // namespace trireme
