#include "tests/server/proxy.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <memory>
#include <vector>

#include "tests/comm/loopback.h"

namespace trireme::test {

namespace {

struct Connection {
  FileDescriptor client;
  FileDescriptor server;
  Proxy::Plan plan;
  bool is_stalled = false;
};

// Passes on what has arrived; returns false at the end of the connection.
bool pass(int from, int to, std::int64_t& left) {
  std::array<char, 65536> bytes;
  const ssize_t got = ::recv(
      from, bytes.data(), static_cast<std::size_t>(std::min<std::int64_t>(bytes.size(), left)), 0);
  if (got <= 0) return false;
  left -= got;
  for (ssize_t sent = 0; sent < got;) {
    const ssize_t more =
        ::send(to, bytes.data() + sent, static_cast<std::size_t>(got - sent), MSG_NOSIGNAL);
    if (more <= 0) return false;
    sent += more;
  }
  return true;
}

}  // namespace

int port_of(const std::string& endpoint) {
  return std::stoi(endpoint.substr(endpoint.rfind(':') + 1));
}

Proxy::Proxy(const std::string& target, std::function<Plan(int connection)> plan)
    : target_port_(port_of(target)),
      listener_(listening_on(0)),
      port_(port_of(listener_)),
      plan_(std::move(plan)) {
  thread_ = std::thread([this] { run(); });
}

Proxy::~Proxy() {
  stop_ = true;
  thread_.join();
}

std::string Proxy::endpoint() const {
  return "tcp://127.0.0.1:" + std::to_string(port_);
}

void Proxy::run() {
  std::vector<std::unique_ptr<Connection>> all;
  while (!stop_) {
    std::vector<pollfd> polled = {{listener_.fd(), POLLIN, 0}};
    for (const auto& connection : all) {
      const short events = connection->is_stalled ? POLLRDHUP : POLLIN;
      polled.push_back({connection->client.fd(), events, 0});
      polled.push_back({connection->server.fd(), events, 0});
    }
    ::poll(polled.data(), polled.size(), 20);
    for (std::size_t i = 0; i < all.size(); ++i) {
      Connection& one = *all[i];
      std::int64_t any = INT64_MAX;
      bool lives = true;
      if (polled[1 + 2 * i].revents != 0) {
        lives = !one.is_stalled && pass(one.client.fd(), one.server.fd(), one.plan.bytes);
      }
      if (lives && polled[2 + 2 * i].revents != 0) {
        lives = pass(one.server.fd(), one.client.fd(), any);
      }
      if (lives && one.plan.bytes == 0 && !one.is_stalled) {
        lives = one.plan.fate == Fate::kStalls;
        one.is_stalled = lives;
        stalled_ += lives ? 1 : 0;
      }
      if (!lives) all[i].reset();
    }
    std::erase(all, nullptr);
    if (polled[0].revents == 0) continue;
    FileDescriptor client(::accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC));
    FileDescriptor server = connected_to(target_port_);
    const Plan plan = plan_(connections_++);
    if (!client.is_open() || !server.is_open()) continue;
    all.push_back(std::make_unique<Connection>(
        Connection{std::move(client), std::move(server), plan, false}));
  }
}

}  // namespace trireme::test
