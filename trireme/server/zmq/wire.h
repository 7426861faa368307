#pragma once

#include <chrono>
#include <string>
#include <zmq.hpp>

#include "trireme/server/zmq/keys.h"

namespace trireme::server {

/// A worker that is not heard of otherwise says so at least this often.
inline constexpr std::chrono::milliseconds kHeartbeat{1000};

/// Both ends: a peer whose host has gone away is noticed by the kernel within half a minute. The
/// heartbeats of ZeroMQ wait their turn behind a large frame, so that they are given `dead_after`.
void set_liveness(zmq::socket_t& socket, std::chrono::milliseconds dead_after);

/// A client with these keys, of a server with that public one (Z85).
void set_keys(zmq::socket_t& socket, const KeyPair& keys, const std::string& server_key);

}  // namespace trireme::server
