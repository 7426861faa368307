#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <zmq.hpp>

namespace trireme::server {

/// What happens to the connections of a socket. Goes away before its socket does, on the thread
/// that uses both.
class Monitor {
 public:
  /// ZMQ_EVENT_..., and its value.
  using Handler = std::function<void(std::uint16_t event, std::uint32_t value)>;

  Monitor(zmq::context_t& context, zmq::socket_t& socket);
  ~Monitor();
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  /// Hands over what has come since; never waits.
  void read(const Handler& handler);

  zmq::pollitem_t poll_item() { return {events_.handle(), 0, ZMQ_POLLIN, 0}; }

 private:
  zmq::socket_t& socket_;
  zmq::socket_t events_;
};

}  // namespace trireme::server
