#include "trireme/world/c10d/endpoint.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"

namespace trireme::c10d {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kBetweenTries{50};
constexpr milliseconds kOneTry{2000};

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Addresses parse(const std::string& numbers) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  // Any port: a datagram's socket connects without sending.
  if (getaddrinfo(numbers.c_str(), "9", &hints, &found) != 0) found = nullptr;
  return {found, &freeaddrinfo};
}

// Sets `trouble` if the name has no address, which for a pod may only mean that it has not started.
Addresses resolve(const Rendezvous& rendezvous, std::string& trouble) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(rendezvous.master_port);
  const int error = getaddrinfo(rendezvous.master_address.c_str(), port.c_str(), &hints, &found);
  if (error != 0) {
    trouble = fmt::format("the name cannot be resolved ({})", gai_strerror(error));
    found = nullptr;
  }
  return {found, &freeaddrinfo};
}

int error_of(const FileDescriptor& socket) {
  int error = 0;
  socklen_t bytes = sizeof(error);
  getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &bytes);
  return error;
}

// Returns 0 or an errno.
int connect_to(const addrinfo& address, const FileDescriptor& socket, milliseconds patience) {
  if (connect(socket.fd(), address.ai_addr, address.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd event{socket.fd(), POLLOUT, 0};
  const int ready = poll(&event, 1, static_cast<int>(patience.count()));
  return ready == 1 ? error_of(socket) : ETIMEDOUT;
}

std::string own_address(const FileDescriptor& socket) {
  sockaddr_storage address{};
  socklen_t bytes = sizeof(address);
  char host[NI_MAXHOST] = {};
  if (getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&address), &bytes) != 0 ||
      getnameinfo(reinterpret_cast<sockaddr*>(&address), bytes, host, sizeof(host), nullptr, 0,
                  NI_NUMERICHOST) != 0) {
    return {};
  }
  return host;
}

// If none of the addresses answers, the result is empty and `trouble` has the reason.
std::string try_once(const Rendezvous& rendezvous, Clock::time_point deadline,
                     std::string& trouble) {
  const Addresses addresses = resolve(rendezvous, trouble);
  for (const addrinfo* address = addresses.get(); address; address = address->ai_next) {
    const FileDescriptor socket(::socket(address->ai_family,
                                         address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
                                         address->ai_protocol));
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    const int error = socket.is_open()
                          ? connect_to(*address, socket, std::clamp(left, milliseconds(1), kOneTry))
                          : errno;
    if (error == 0) return own_address(socket);
    trouble = error == ETIMEDOUT ? "nobody answers" : std::strerror(error);
  }
  return {};
}

}  // namespace

std::string address_towards_master(const Rendezvous& rendezvous, Clock::time_point deadline) {
  std::string trouble;
  for (;;) {
    std::string address = try_once(rendezvous, deadline, trouble);
    if (!address.empty()) return address;
    if (Clock::now() + kBetweenTries >= deadline) break;
    std::this_thread::sleep_for(kBetweenTries);
  }
  throw CommError(fmt::format(
      "connect: rank {} of {} did not reach rank 0 at {} within {:.1f} s: {}; check that rank 0 "
      "runs there and that MASTER_ADDR and MASTER_PORT are the same on all ranks",
      rendezvous.rank, rendezvous.world_size, endpoint_of(rendezvous),
      static_cast<double>(rendezvous.timeout.count()) / 1000, trouble));
}

bool is_loopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1" || address.starts_with("::ffff:127.");
}

std::string address_towards(const std::string& peer) {
  const Addresses address = parse(peer);
  if (!address) return {};
  const FileDescriptor socket(::socket(address->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (connect(socket.fd(), address->ai_addr, address->ai_addrlen) != 0) return {};
  return own_address(socket);
}

}  // namespace trireme::c10d
