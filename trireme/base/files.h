#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace trireme {

/// The whole file. Throws DataError naming the path and the system's reason.
std::string read_file(const std::filesystem::path& path);

/// Replaces `path` as a whole or not at all (AtomicFile). Throws DataError.
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

}  // namespace trireme
