#pragma once

#include <string>

namespace trireme::server {

/// Throws UsageError unless `endpoint` is tcp://HOST:PORT; `who` begins the message.
void check_endpoint(const std::string& endpoint, const std::string& who);

/// Whether only programs of this host reach it: tcp://127.x.x.x, tcp://[::1], tcp://localhost.
bool is_loopback(const std::string& endpoint);

}  // namespace trireme::server
