#pragma once

#include <sys/types.h>

#include <string>

namespace trireme {

/// What the system knows of a process of this host: "its process is running", "its process is
/// stopped" (SIGSTOP, a debugger) or "its process is gone".
std::string state_of_process(pid_t process);

}  // namespace trireme
