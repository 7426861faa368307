#include "trireme/world/c10d/endpoint.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <thread>

#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"
#include "trireme/launch/tcp.h"

namespace trireme::c10d {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kBetweenTries{50};
constexpr milliseconds kOneTry{2000};

SocketAddresses parse(const std::string& numbers) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  // Any port: a datagram's socket connects without sending.
  if (getaddrinfo(numbers.c_str(), "9", &hints, &found) != 0) found = nullptr;
  return {found, &freeaddrinfo};
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
  const SocketAddresses addresses =
      resolve(rendezvous.master_address, rendezvous.master_port, trouble);
  for (const addrinfo* address = addresses.get(); address; address = address->ai_next) {
    const auto try_until = std::min(deadline, Clock::now() + kOneTry);
    const FileDescriptor socket = connect_to(*address, try_until, trouble);
    if (socket.is_open()) return own_address(socket);
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
  const SocketAddresses address = parse(peer);
  if (!address) return {};
  const FileDescriptor socket(::socket(address->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (connect(socket.fd(), address->ai_addr, address->ai_addrlen) != 0) return {};
  return own_address(socket);
}

}  // namespace trireme::c10d
