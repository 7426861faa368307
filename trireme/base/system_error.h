#pragma once

#include <functional>
#include <string>
#include <thread>

namespace trireme {

/// Returns why a call of the system has failed, and what to do where the cause is a limit: "Too
/// many open files; raise the limit of open files (ulimit -n) or start fewer ranks". `error`: errno
/// of a call that makes a process, a thread, a mapping or a descriptor.
std::string system_reason(int error);

/// The same for memfd_create(), which sandboxes forbid.
std::string memory_file_reason(int error);

/// Returns a thread that runs `body`. Throws UsageError if the system allows no more threads.
/// `purpose`: for that error, "loader: reads ahead".
std::thread start_thread(const char* purpose, std::function<void()> body);

}  // namespace trireme
