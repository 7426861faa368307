#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace trireme::server {

/// The CURVE keys of one end (curvezmq.org), in Z85: 40 printable characters each.
struct KeyPair {
  std::string public_key;
  std::string secret_key;
};

KeyPair new_key_pair();

/// Writes folder/name.key, which is public, and folder/name.secret, mode 0600; creates the folder
/// with mode 0700 whatever the umask. Throws UsageError if `name` cannot be a file name, DataError
/// if a file exists or if other users can write the folder. So do the functions below, unless its
/// file system is mounted read-only.
void write_key_files(const std::filesystem::path& folder, std::string_view name,
                     const KeyPair& keys);

/// Reads a file NAME.key. Throws DataError.
std::string read_public_key(const std::filesystem::path& file);

/// Reads a file NAME.secret, and computes the public key. Throws DataError, also if other users may
/// read the file.
KeyPair read_key_pair(const std::filesystem::path& file);

}  // namespace trireme::server
