#pragma once

#include <limits>
#include <string>
#include <string_view>

#include "trireme/formats/byte_source.h"

namespace trireme {

/// Reads `source` to its end. `name` is the file's in errors. Throws DataError if it has more than
/// `most` bytes, or as ByteSource::read.
std::string whole_text(ByteSource& source, std::string_view name,
                       std::size_t most = std::numeric_limits<std::size_t>::max());

}  // namespace trireme
