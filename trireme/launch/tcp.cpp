#include "trireme/launch/tcp.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace trireme {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

SocketAddresses resolve(const std::string& host, int port, std::string& trouble) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0) {
    trouble = fmt::format("the name cannot be resolved ({})", ::gai_strerror(error));
    found = nullptr;
  }
  return {found, &::freeaddrinfo};
}

FileDescriptor connect_to(const addrinfo& address, Clock::time_point deadline,
                          std::string& trouble) {
  FileDescriptor socket(::socket(
      address.ai_family, address.ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, address.ai_protocol));
  int error = socket.is_open() ? 0 : errno;
  if (error == 0) {
    const int on = 1;
    ::setsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (::connect(socket.fd(), address.ai_addr, address.ai_addrlen) != 0) error = errno;
  }
  if (error == EINPROGRESS) {
    socklen_t size = sizeof error;
    error = ETIMEDOUT;
    if (wait_for(socket.fd(), POLLOUT, deadline)) {
      ::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
    }
  }
  if (error == 0) return socket;
  trouble = error == ETIMEDOUT ? "no answer" : std::strerror(error);
  return {};
}

bool wait_for(int fd, short events, Clock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    pollfd event{fd, events, 0};
    const int ready = ::poll(
        &event, 1,
        static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, milliseconds(1000).count())));
    if (ready > 0) return true;
    if (Clock::now() >= deadline) return false;
  }
}

}  // namespace trireme
