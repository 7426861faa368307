#pragma once

#include "trireme/base/file_descriptor.h"

namespace trireme {

/// Opens a file in memory to which several processes write: each write is appended. In a plain
/// memfd, whose offset is not locked, one of two simultaneous writes may be lost. Throws DataError.
FileDescriptor open_output_file(const char* name);

}  // namespace trireme
