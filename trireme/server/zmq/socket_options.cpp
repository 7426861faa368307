#include "trireme/server/zmq/socket_options.h"

namespace trireme::server {

void set_liveness(zmq::socket_t& socket, std::chrono::milliseconds dead_after) {
  using namespace std::chrono_literals;
  socket.set(zmq::sockopt::tcp_keepalive, 1);
  socket.set(zmq::sockopt::tcp_keepalive_idle, 5);
  socket.set(zmq::sockopt::tcp_keepalive_intvl, 5);
  socket.set(zmq::sockopt::tcp_keepalive_cnt, 4);
  socket.set(zmq::sockopt::tcp_maxrt, 30000);
  if (dead_after <= 0ms) return;
  const auto silence = static_cast<int>(dead_after.count());
  socket.set(zmq::sockopt::heartbeat_ivl, silence / 4 + 1);
  socket.set(zmq::sockopt::heartbeat_timeout, silence);
}

void set_keys(zmq::socket_t& socket, const KeyPair& keys, const std::string& server_key) {
  socket.set(zmq::sockopt::curve_publickey, keys.public_key);
  socket.set(zmq::sockopt::curve_secretkey, keys.secret_key);
  socket.set(zmq::sockopt::curve_serverkey, server_key);
}

}  // namespace trireme::server
