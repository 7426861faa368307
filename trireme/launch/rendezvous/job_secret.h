#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace trireme {

/// The secret that the ranks of one job share. A process that knows it is accepted as a rank
/// (launch/rendezvous/handshake.h); a job without a secret accepts every process that reaches it.
class JobSecret {
 public:
  static constexpr std::size_t kBytes = 32;
  using Key = std::array<std::uint8_t, kBytes>;

  /// No secret: the key is zero.
  JobSecret() = default;

  static JobSecret random();

  /// Derives the key from the text of a file, without the blanks around it. Throws DataError if the
  /// file cannot be read, is not a regular file, is larger than 4 KiB, has fewer than 16
  /// characters, or if other users may read it or the group may write it.
  static JobSecret from_file(const std::filesystem::path& file);

  /// Reads what hex() has written. Throws UsageError for any other text.
  static JobSecret from_hex(std::string_view hex);

  bool is_given() const { return is_given_; }
  const Key& key() const { return key_; }

  /// The key in 64 hexadecimal digits, for the environment of a child process.
  std::string hex() const;

 private:
  explicit JobSecret(const Key& key) : key_(key), is_given_(true) {}

  Key key_{};
  bool is_given_ = false;
};

}  // namespace trireme
