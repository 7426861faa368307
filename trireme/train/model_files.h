#pragma once

#include <map>
#include <string>

#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"

namespace trireme {

/// The files that [model] names and that decide what a run begins with: the SHA-256 of each by the
/// name of its key, "path" and "weights"; "" if there is none. Where the files lie does not count.
using ModelFiles = std::map<std::string, std::string>;

/// Reads them on every rank. Collective. Throws the same error on every rank: DataError if one
/// cannot be read, UsageError if a rank has another file than rank 0.
ModelFiles read_model_files(const Config& config, Communicator& world);

}  // namespace trireme
