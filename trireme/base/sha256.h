#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "trireme/base/files.h"

namespace trireme {

/// SHA-256 (FIPS 180-4) as 64 hexadecimal digits.
std::string sha256(std::string_view bytes);

/// Returns the SHA-256 of a whole file, read chunk by chunk. Throws DataError if it cannot be read.
std::string sha256_of_file(const std::filesystem::path& path, Files& files = real_files());

}  // namespace trireme
