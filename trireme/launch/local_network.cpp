#include "trireme/launch/local_network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "trireme/launch/tcp.h"

namespace trireme {
namespace {

std::string name_of_host() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

std::string number_of(const addrinfo& address) {
  std::array<char, NI_MAXHOST> text{};
  const int error = ::getnameinfo(address.ai_addr, address.ai_addrlen, text.data(), text.size(),
                                  nullptr, 0, NI_NUMERICHOST);
  return error == 0 ? text.data() : "";
}

bool is_loopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1";
}

void resolve_name(LocalNetwork& network) {
  const SocketAddresses found = resolve(network.host_name, 0, network.name_trouble);
  for (const addrinfo* one = found.get(); one != nullptr; one = one->ai_next) {
    std::string number = number_of(*one);
    if (number.empty() || std::ranges::count(network.addresses, number) > 0) continue;
    network.addresses.push_back(std::move(number));
  }
  network.only_loopback =
      !network.addresses.empty() && std::ranges::all_of(network.addresses, is_loopback);
}

// Why a process cannot connect to another one by 127.0.0.1; empty if it can.
std::string trouble_of_loopback() {
  const FileDescriptor server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in own{};
  own.sin_family = AF_INET;
  own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof own;
  auto* generic = reinterpret_cast<sockaddr*>(&own);
  if (!server.is_open() || ::bind(server.fd(), generic, size) != 0 ||
      ::listen(server.fd(), 1) != 0 || ::getsockname(server.fd(), generic, &size) != 0) {
    return std::strerror(errno);
  }
  const addrinfo address{
      .ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_addrlen = size, .ai_addr = generic};
  std::string trouble;
  connect_to(address, std::chrono::steady_clock::now() + std::chrono::seconds(2), trouble);
  return trouble;
}

}  // namespace

LocalNetwork inspect_local_network() {
  LocalNetwork network{.host_name = name_of_host()};
  resolve_name(network);
  network.loopback_trouble = trouble_of_loopback();
  return network;
}

}  // namespace trireme
