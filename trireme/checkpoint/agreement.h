#pragma once

#include <functional>
#include <string>
#include <vector>

#include "trireme/comm/communicator.h"

namespace trireme {

/// Collective. Runs `part` on every rank, which must not communicate itself, and returns what each
/// rank's gave, on every rank. If it throws anywhere, every rank throws the lowest such rank's
/// error, named: UsageError if it was one, otherwise DataError.
std::vector<std::string> agree(Communicator& world, const std::function<std::string()>& part);

}  // namespace trireme
