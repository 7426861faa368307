#pragma once

#include <string>

namespace trireme::server {

/// The library that carries messages to servers on other hosts: "ZeroMQ 4.3.4 with CURVE".
std::string zmq_library();

}  // namespace trireme::server
