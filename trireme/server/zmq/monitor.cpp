#include "trireme/server/zmq/monitor.h"

#include <fmt/format.h>

#include <cstring>

namespace trireme::server {

Monitor::Monitor(zmq::context_t& context, zmq::socket_t& socket)
    : socket_(socket), events_(context, zmq::socket_type::pair) {
  const std::string address = fmt::format("inproc://events-of-{}", socket.handle());
  if (zmq_socket_monitor(socket.handle(), address.c_str(), ZMQ_EVENT_ALL) != 0) {
    throw zmq::error_t();
  }
  events_.set(zmq::sockopt::linger, 0);
  // The socket's I/O thread must never wait for this thread.
  events_.set(zmq::sockopt::rcvhwm, 0);
  events_.connect(address);
}

Monitor::~Monitor() {
  zmq_socket_monitor(socket_.handle(), nullptr, 0);
}

void Monitor::read(const Handler& handler) {
  zmq::message_t what;
  zmq::message_t where;
  while (events_.recv(what, zmq::recv_flags::dontwait)) {
    static_cast<void>(events_.recv(where, zmq::recv_flags::dontwait));
    std::uint16_t event = 0;
    std::uint32_t value = 0;
    if (what.size() < sizeof event + sizeof value) continue;
    std::memcpy(&event, what.data(), sizeof event);
    std::memcpy(&value, what.data<std::byte>() + sizeof event, sizeof value);
    handler(event, value);
  }
}

}  // namespace trireme::server
