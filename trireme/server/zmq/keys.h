#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace trireme::server {

/// One end's key of CURVE (curvezmq.org), both halves in Z85: 40 printable characters.
struct KeyPair {
  std::string public_key;
  std::string secret_key;
};

KeyPair new_key_pair();

/// Writes folder/name.key, for everybody, and folder/name.secret, mode 0600, making the folder.
/// Throws UsageError for a name that is no file's, DataError rather than overwrite what is there.
void write_key_files(const std::filesystem::path& folder, std::string_view name,
                     const KeyPair& keys);

/// Of a file NAME.key. Throws DataError.
std::string read_public_key(const std::filesystem::path& file);

/// Of a file NAME.secret, its public half computed. Throws DataError; also if others than its
/// owner may read it.
KeyPair read_key_pair(const std::filesystem::path& file);

}  // namespace trireme::server
