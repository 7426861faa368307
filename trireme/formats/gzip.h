#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "trireme/formats/byte_source.h"

namespace trireme {

/// The bytes that `compressed`, a gzip stream (RFC 1952, one or several members), holds: inflated
/// as they are read, 64 KiB of memory whatever the size. `name` is the file's in errors.
///
/// read() throws DataError on a torn or damaged stream. at_most() follows from DEFLATE's best
/// ratio, 1032 to 1: a small file cannot claim to hold a large one.
std::unique_ptr<ByteSource> inflate(std::unique_ptr<ByteSource> compressed, std::string name);

/// The bytes of a file, inflated if it begins with gzip's magic number, whatever its name is.
std::unique_ptr<ByteSource> open_maybe_gzip(const std::filesystem::path& path);

/// The same for a source that stands at its beginning.
std::unique_ptr<ByteSource> maybe_inflate(std::unique_ptr<ByteSource> source, std::string name);

}  // namespace trireme
