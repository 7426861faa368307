#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace trireme {

/// SHA-256 (FIPS 180-4) as 64 hexadecimal digits.
std::string sha256(std::string_view bytes);

/// Of a whole file, read in pieces. Throws DataError if it cannot be read.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace trireme
