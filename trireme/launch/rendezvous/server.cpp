#include "trireme/launch/rendezvous/server.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <list>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/file_descriptor.h"
#include "trireme/base/system_error.h"
#include "trireme/launch/rendezvous/requests.h"

namespace trireme::rendezvous {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::size_t kReadBytes = std::size_t{64} << 10;
// A connection with more unsent bytes is not read from.
constexpr std::size_t kMostUnsent = std::size_t{1} << 20;
constexpr std::size_t kStrangers = 64;  // connections before the handshake, above one a rank
constexpr milliseconds kTick{200};
constexpr std::size_t kMostRefused = 8;

// Both kinds of addresses where the host has IPv6. Returns 0 or an errno.
int listen_on(FileDescriptor& socket, int family, int port, bool on_loopback) {
  socket = FileDescriptor(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) return errno;
  const int on = 1;
  ::setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_storage address{};
  socklen_t size = sizeof(sockaddr_in);
  if (family == AF_INET) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&address);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<std::uint16_t>(port));
    v4->sin_addr.s_addr = htonl(on_loopback ? INADDR_LOOPBACK : INADDR_ANY);
  } else {
    const int off = 0;
    ::setsockopt(socket.fd(), IPPROTO_IPV6, IPV6_V6ONLY, on_loopback ? &on : &off, sizeof off);
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&address);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<std::uint16_t>(port));
    v6->sin6_addr = on_loopback ? in6addr_loopback : in6addr_any;
    size = sizeof(sockaddr_in6);
  }
  const bool listens = ::bind(socket.fd(), reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                       ::listen(socket.fd(), 1024) == 0;
  return listens ? 0 : errno;
}

int port_of(const FileDescriptor& socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  // The port lies at the same place in both kinds of addresses.
  return ntohs(reinterpret_cast<sockaddr_in*>(&address)->sin_port);
}

// "10.0.0.2", "fe80::1".
std::string address_of_peer(const FileDescriptor& socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  std::array<char, NI_MAXHOST> host{};
  if (::getpeername(socket.fd(), reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      ::getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host.data(), host.size(), nullptr,
                    0, NI_NUMERICHOST) != 0) {
    return "a process";
  }
  constexpr std::string_view kMapped = "::ffff:";  // IPv4 on a socket for both
  const std::string_view text = host.data();
  return std::string(text.starts_with(kMapped) ? text.substr(kMapped.size()) : text);
}

}  // namespace

class Server::Loop {
 public:
  explicit Loop(const Options& options)
      : options_(options), store_(options.max_bytes), stop_(::eventfd(0, EFD_CLOEXEC)) {
    listen();
    thread_ = start_thread("rendezvous", [this] {
      sigset_t all;
      sigfillset(&all);
      ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
      while (!is_stopped()) serve_once();
    });
  }

  ~Loop() {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t told = ::write(stop_.fd(), &one, sizeof one);
    thread_.join();
  }

  int port() const { return port_; }

  std::vector<std::string> refused() const {
    const std::lock_guard lock(mutex_);
    return refused_;
  }

 private:
  struct Connection {
    Connection(FileDescriptor accepted, const Identity& identity, Clock::time_point until)
        : socket(std::move(accepted)), handshake(identity), deadline(until) {
      unsent = handshake.greeting();
    }

    FileDescriptor socket;
    ServerHandshake handshake;
    Clock::time_point deadline;  // of the handshake
    bool is_rank = false;        // the handshake is complete
    bool is_closing = false;     // once everything is sent
    Session session;
    std::string received;
    std::string unsent;
  };

  void listen() {
    FileDescriptor socket;
    // On loopback the two kinds of addresses are two sockets.
    int error = listen_on(socket, AF_INET6, options_.port, options_.on_loopback);
    const bool has_v6 = error == 0;
    port_ = has_v6 ? port_of(socket) : options_.port;
    if (has_v6) listeners_.push_back(std::move(socket));
    if (!has_v6 || options_.on_loopback) {
      if (error != EADDRINUSE) error = listen_on(socket, AF_INET, port_, options_.on_loopback);
      if (error == 0) listeners_.push_back(std::move(socket));
    }
    if (error != 0) {
      throw UsageError(fmt::format(
          "connect: rank 0 cannot serve on port {}: {}; end the program that has it, or give all "
          "ranks another MASTER_PORT",
          options_.port, std::strerror(error)));
    }
    port_ = port_of(listeners_.back());
  }

  bool is_stopped() const {
    pollfd event{stop_.fd(), POLLIN, 0};
    return ::poll(&event, 1, 0) == 1;
  }

  void serve_once() {
    std::vector<pollfd> polled = {{stop_.fd(), POLLIN, 0}};
    // Without a free descriptor, the queue of the listeners would end every poll at once.
    if (Clock::now() >= accept_after_) {
      for (const FileDescriptor& listener : listeners_)
        polled.push_back({listener.fd(), POLLIN, 0});
    }
    const std::size_t first = polled.size();
    for (const Connection& connection : connections_) {
      const bool reads = !connection.is_closing && connection.unsent.size() < kMostUnsent;
      const int events = (reads ? POLLIN : 0) | (connection.unsent.empty() ? 0 : POLLOUT);
      polled.push_back({connection.socket.fd(), static_cast<short>(events), 0});
    }
    ::poll(polled.data(), polled.size(), static_cast<int>(kTick.count()));
    auto connection = connections_.begin();
    for (std::size_t i = first; i < polled.size(); ++i) {
      const bool goes_on = polled[i].revents == 0 || advance(*connection);
      const bool is_late = !connection->is_rank && Clock::now() >= connection->deadline;
      connection = goes_on && !is_late ? std::next(connection) : connections_.erase(connection);
    }
    for (std::size_t i = 1; i < first; ++i) {
      if (polled[i].revents != 0) accept_from(polled[i].fd);
    }
  }

  void accept_from(int listener) {
    for (std::size_t i = 0; i < kStrangers; ++i) {
      FileDescriptor socket(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!socket.is_open()) {
        if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR) return;
        if (!drop_oldest_stranger()) accept_after_ = Clock::now() + kTick;
        return;
      }
      const std::size_t ranks = static_cast<std::size_t>(std::max(1, options_.ranks));
      const auto strangers = static_cast<std::size_t>(std::ranges::count_if(
          connections_, [](const Connection& connection) { return !connection.is_rank; }));
      if (strangers >= kStrangers + ranks) drop_oldest_stranger();
      // A rank has one connection; a few more, since a rank may have lost one.
      if (connections_.size() - strangers >= 4 * ranks + kStrangers) continue;
      connections_.emplace_back(std::move(socket), options_.identity,
                                Clock::now() + options_.handshake_time);
    }
  }

  bool drop_oldest_stranger() {
    const auto oldest = std::ranges::find_if(
        connections_, [](const Connection& connection) { return !connection.is_rank; });
    if (oldest == connections_.end()) return false;
    connections_.erase(oldest);
    return true;
  }

  // Returns false if the connection is over.
  bool advance(Connection& connection) {
    if (!connection.is_closing && !receive(connection)) return false;
    while (!connection.unsent.empty()) {
      const ssize_t sent = ::send(connection.socket.fd(), connection.unsent.data(),
                                  connection.unsent.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0) return errno == EAGAIN || errno == EINTR;
      connection.unsent.erase(0, static_cast<std::size_t>(sent));
    }
    return !connection.is_closing;
  }

  bool receive(Connection& connection) {
    if (connection.unsent.size() >= kMostUnsent) return true;
    std::array<char, kReadBytes> bytes;
    const ssize_t received =
        ::recv(connection.socket.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (received < 0) return errno == EAGAIN || errno == EINTR;
    if (received == 0) return false;
    connection.received.append(bytes.data(), static_cast<std::size_t>(received));
    return connection.is_rank || greet(connection) ? reply(connection) : false;
  }

  // Returns false if this is no rank.
  bool greet(Connection& connection) {
    if (!may_be_hello(connection.received)) return false;
    if (connection.received.size() < kHelloBytes) return true;
    const auto answer = connection.handshake.answer(connection.received.substr(0, kHelloBytes));
    if (!answer) return false;
    connection.received.erase(0, kHelloBytes);
    connection.unsent += answer->bytes;
    connection.session = answer->session;
    connection.is_rank = answer->verdict == Verdict::kWelcome;
    connection.is_closing = !connection.is_rank;
    if (!connection.is_rank) note_refusal(connection, answer->verdict);
    return true;
  }

  void note_refusal(const Connection& connection, Verdict verdict) {
    const std::string who =
        fmt::format("{}, which {}", address_of_peer(connection.socket),
                    verdict == Verdict::kOtherJob ? "belongs to another job"
                                                  : "has another job secret or none");
    const std::lock_guard lock(mutex_);
    if (refused_.size() < kMostRefused && std::ranges::count(refused_, who) == 0) {
      refused_.push_back(who);
    }
  }

  bool reply(Connection& connection) {
    std::string text;
    while (connection.is_rank && connection.unsent.size() < kMostUnsent) {
      const Seal::Opened opened = connection.session.to_server.open(connection.received, text);
      if (opened == Seal::Opened::kForged) return false;
      if (opened == Seal::Opened::kMore) break;
      const std::optional<StoreRequest> request = decode_request(text);
      if (!request) return false;
      const KeyValueStore::Result result = store_.apply(*request);
      if (result.is_refused) return false;
      connection.unsent += connection.session.to_client.seal(encode_reply(result.value));
    }
    return true;
  }

  const Options options_;
  KeyValueStore store_;
  FileDescriptor stop_;
  std::vector<FileDescriptor> listeners_;
  int port_ = 0;
  Clock::time_point accept_after_{};
  std::list<Connection> connections_;  // the oldest first
  mutable std::mutex mutex_;           // of what follows
  std::vector<std::string> refused_;
  std::thread thread_;
};

Server::Server(const Options& options) : loop_(std::make_unique<Loop>(options)) {}

Server::~Server() = default;

int Server::port() const {
  return loop_->port();
}

std::vector<std::string> Server::refused() const {
  return loop_->refused();
}

}  // namespace trireme::rendezvous
