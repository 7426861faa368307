#pragma once

#include <netdb.h>

#include <chrono>
#include <memory>
#include <string>

#include "trireme/base/file_descriptor.h"

namespace trireme {

using SocketAddresses = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

/// The TCP addresses of `host`, a name or a number. None, with the reason in `trouble`, if the name
/// cannot be resolved, which for a pod may only mean that it has not started.
SocketAddresses resolve(const std::string& host, int port, std::string& trouble);

/// Returns a connected socket that does not block; one that is not open, with the reason in
/// `trouble`, if there is no connection by `deadline`.
FileDescriptor connect_to(const addrinfo& address, std::chrono::steady_clock::time_point deadline,
                          std::string& trouble);

/// Waits for the `events` of poll(). Returns false if none has come by `deadline`.
bool wait_for(int fd, short events, std::chrono::steady_clock::time_point deadline);

}  // namespace trireme
