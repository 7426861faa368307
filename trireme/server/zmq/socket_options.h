#pragma once

#include <chrono>
#include <string>
#include <zmq.hpp>

#include "trireme/server/zmq/keys.h"

namespace trireme::server {

/// The interval of a worker's heartbeats while it sends nothing else.
inline constexpr std::chrono::milliseconds kHeartbeat{1000};

/// For both ends: the kernel notices within half a minute that the host of a peer is gone. ZeroMQ's
/// own heartbeats queue behind large frames, so that their timeout is `dead_after`.
void set_liveness(zmq::socket_t& socket, std::chrono::milliseconds dead_after);

/// Makes `socket` a client with `keys` of the server whose public key is `server_key` (Z85).
void set_keys(zmq::socket_t& socket, const KeyPair& keys, const std::string& server_key);

}  // namespace trireme::server
