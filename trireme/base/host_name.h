#pragma once

#include <string>

namespace trireme {

/// The name of this machine, for messages.
std::string host_name();

}  // namespace trireme
