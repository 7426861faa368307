#include "trireme/server/zmq/endpoint.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <charconv>
#include <string_view>

#include "trireme/base/error.h"

namespace trireme::server {

namespace {

constexpr std::string_view kScheme = "tcp://";

std::string_view host_of(std::string_view endpoint) {
  endpoint.remove_prefix(std::min(kScheme.size(), endpoint.size()));
  return endpoint.substr(0, endpoint.rfind(':'));
}

bool is_port(std::string_view text) {
  int port = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port >= 0 && port <= 65535;
}

}  // namespace

void check_endpoint(const std::string& endpoint, const std::string& who) {
  const auto colon = endpoint.rfind(':');
  if (endpoint.starts_with(kScheme) && colon != std::string::npos && colon > kScheme.size() &&
      is_port(std::string_view(endpoint).substr(colon + 1))) {
    return;
  }
  throw UsageError(
      fmt::format("{}: an address must be tcp://HOST:PORT, got \"{}\"", who, endpoint));
}

bool is_loopback(const std::string& endpoint) {
  const std::string host(host_of(endpoint));
  if (host == "localhost" || host == "[::1]") return true;
  // A name that begins like one, 127.example.org, is none.
  in_addr address{};
  return ::inet_pton(AF_INET, host.c_str(), &address) == 1 && (ntohl(address.s_addr) >> 24) == 127;
}

}  // namespace trireme::server
