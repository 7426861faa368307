#pragma once

#include "trireme/base/file_descriptor.h"

namespace trireme {

/// A file in memory for what several processes write: each write goes behind all others. Of a plain
/// memfd, whose offset nobody locks, two writes at once leave one. Throws DataError.
FileDescriptor open_output_file(const char* name);

}  // namespace trireme
