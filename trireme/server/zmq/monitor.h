#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <zmq.hpp>

namespace trireme::server {

/// The events of a socket's connections. Must be destroyed before the socket, on the thread that
/// uses both.
class Monitor {
 public:
  /// `event` is ZMQ_EVENT_..., `value` depends on it.
  using Handler = std::function<void(std::uint16_t event, std::uint32_t value)>;

  Monitor(zmq::context_t& context, zmq::socket_t& socket);
  ~Monitor();
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  /// Calls `handler` for each event that has come; never waits.
  void read(const Handler& handler);

  zmq::pollitem_t poll_item() { return {events_.handle(), 0, ZMQ_POLLIN, 0}; }

 private:
  zmq::socket_t& socket_;
  zmq::socket_t events_;
};

}  // namespace trireme::server
