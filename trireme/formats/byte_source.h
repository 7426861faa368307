#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace trireme {

/// Bytes that come in order, from a file, from memory or through a decompressor: what the readers
/// of streamed formats are given, so that tests and fuzz targets can feed them from memory.
///
/// One thread at a time.
class ByteSource {
 public:
  virtual ~ByteSource() = default;

  /// Fills `out` from its front and returns the bytes written: fewer than out.size() only at the
  /// end. Throws DataError if the bytes cannot be read or do not decompress.
  virtual std::size_t read(std::span<char> out) = 0;

  /// No more than this many bytes are still to come: what a size that a header claims is held
  /// against before memory is allocated for it.
  virtual std::int64_t at_most() const = 0;
};

/// The bytes of a file as they lie there. Throws DataError naming the path if it cannot be opened
/// or is no regular file.
std::unique_ptr<ByteSource> open_file(const std::filesystem::path& path);

/// What comes from file descriptor `fd`, a file or a pipe, which stays open. `name` is its name in
/// errors.
std::unique_ptr<ByteSource> read_stream(int fd, std::string name);

/// Looks at `bytes`, which must outlive the source.
std::unique_ptr<ByteSource> bytes_of(std::string_view bytes);

}  // namespace trireme
