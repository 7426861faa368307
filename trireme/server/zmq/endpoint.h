#pragma once

#include <string>

namespace trireme::server {

/// Throws UsageError unless `endpoint` is tcp://HOST:PORT; the message begins with `who`.
void check_endpoint(const std::string& endpoint, const std::string& who);

/// True if only programs of this host can reach it: tcp://127.x.x.x, tcp://[::1], tcp://localhost.
bool is_loopback(const std::string& endpoint);

}  // namespace trireme::server
