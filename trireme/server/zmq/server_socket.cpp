#include "trireme/server/zmq/server_socket.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/server/message.h"
#include "trireme/server/zmq/socket_options.h"

namespace trireme::server {

namespace {

constexpr std::size_t kLargestHeader = std::size_t{16} << 20;
constexpr std::size_t kMostFrames = 65536;
constexpr int kQueuedMessages = 8;  // of a connection, in each direction

// Of an identity that ZeroMQ has assigned: a zero and four bytes.
std::optional<std::uint64_t> number_of(const zmq::message_t& identity) {
  if (identity.size() != 5 || *identity.data<char>() != 0) return std::nullopt;
  std::uint64_t number = 0;
  std::memcpy(&number, identity.data(), identity.size());
  return number;
}

zmq::message_t identity_of(std::uint64_t number) {
  return {&number, 5};
}

// The name of the key of the client that sent a frame; null without keys.
const char* client_name_of(const zmq::message_t& frame) {
  return zmq_msg_gets(frame.handle(), "User-Id");
}

}  // namespace

ServerSocket::ServerSocket(zmq::context_t& context, const ZmqServer::Options& options,
                           RejectionLog& rejections)
    : options_(options), rejections_(rejections) {
  if (!options_.secret_key.empty()) {
    keys_ = read_key_pair(options_.secret_key);
    authenticator_.emplace(context, options_.clients);
  }
  socket_ = zmq::socket_t(context, zmq::socket_type::router);
  configure();
  try {
    socket_.bind(options_.endpoint);
  } catch (const zmq::error_t& error) {
    throw UsageError(fmt::format("server {} of {}: cannot listen on {}: {}", options_.shard,
                                 options_.shards, options_.endpoint, error.what()));
  }
  endpoint_ = socket_.get(zmq::sockopt::last_endpoint);
  // The string may end in a zero byte.
  endpoint_.resize(std::strlen(endpoint_.c_str()));
  monitor_.emplace(context, socket_);
}

void ServerSocket::configure() {
  socket_.set(zmq::sockopt::linger, 1000);
  // A message to a connection that has closed is an error: that is how send() notices.
  socket_.set(zmq::sockopt::router_mandatory, true);
  socket_.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(options_.max_message_bytes));
  socket_.set(zmq::sockopt::rcvhwm, kQueuedMessages);
  socket_.set(zmq::sockopt::sndhwm, kQueuedMessages);
  socket_.set(zmq::sockopt::backlog, 64);
  socket_.set(zmq::sockopt::handshake_ivl, 5000);
  set_liveness(socket_, options_.dead_after);
  if (options_.secret_key.empty()) return;
  socket_.set(zmq::sockopt::curve_server, true);
  socket_.set(zmq::sockopt::curve_secretkey, keys_.secret_key);
  socket_.set(zmq::sockopt::zap_domain, ZapAuthenticator::kDomain);
}

void ServerSocket::add_poll_items(std::vector<zmq::pollitem_t>& items) {
  items.push_back({socket_.handle(), 0, ZMQ_POLLIN, 0});
  items.push_back(monitor_->poll_item());
}

bool ServerSocket::receive_one(const Handler& handler) {
  zmq::message_t identity;
  if (!socket_.recv(identity, zmq::recv_flags::dontwait)) return false;
  std::vector<zmq::message_t> frames;
  bool more = identity.more();
  std::size_t bytes = 0;
  while (more) {
    zmq::message_t frame;
    static_cast<void>(socket_.recv(frame, zmq::recv_flags::none));
    more = frame.more();
    bytes += frame.size();
    // All frames of a rejected message are received as well.
    if (frames.size() < kMostFrames && bytes <= options_.max_message_bytes) {
      frames.push_back(std::move(frame));
    }
  }
  const auto from = number_of(identity);
  if (!from) {
    rejections_.add("a client that chose its own identity");
  } else if (frames.empty() || frames.size() == kMostFrames ||
             frames.front().size() > kLargestHeader) {
    rejections_.add("a message whose frames are not trireme's");
  } else if (bytes > options_.max_message_bytes) {
    reject_size(*from, frames.front(), bytes);
  } else if (const char* const name = client_name_of(frames.front());
             name == nullptr && !keys_.public_key.empty()) {
    // Without an authenticator libzmq would accept every key.
    rejections_.add("a client that was not authenticated");
  } else {
    handler(
        {.from = *from, .client_name = name == nullptr ? "" : name, .frames = std::move(frames)});
  }
  return true;
}

// Tells a worker whose model is too large what to do.
void ServerSocket::reject_size(std::uint64_t from, const zmq::message_t& header,
                               std::size_t bytes) {
  const std::string why = fmt::format(
      "server {} of {}: takes messages of {} bytes (--max-message-bytes), got {}; use more "
      "shards or a higher limit",
      options_.shard, options_.shards, options_.max_message_bytes, bytes);
  rejections_.add(why);
  send(from, encode_header({.type = MessageType::kError,
                            .sequence = sequence_in({header.data<std::byte>(), header.size()}),
                            .error = ErrorCode::kUsage,
                            .reason = why}));
}

bool ServerSocket::send(std::uint64_t to, const std::string& header,
                        std::vector<zmq::message_t> bodies) {
  const auto flags = [](bool more) {
    return more ? zmq::send_flags::dontwait | zmq::send_flags::sndmore : zmq::send_flags::dontwait;
  };
  try {
    zmq::message_t identity = identity_of(to);
    if (!socket_.send(identity, flags(true))) {
      // ZeroMQ checks at most once a millisecond how much of its queue has been sent: make it
      // check.
      static_cast<void>(socket_.get(zmq::sockopt::events));
      if (!socket_.send(identity, flags(true))) return true;
    }
    zmq::message_t first(header.data(), header.size());
    if (!socket_.send(first, flags(!bodies.empty()))) return true;
    for (std::size_t i = 0; i < bodies.size(); ++i) {
      if (!socket_.send(bodies[i], flags(i + 1 < bodies.size()))) return true;
    }
    return true;
  } catch (const zmq::error_t& error) {
    if (error.num() == EHOSTUNREACH) return false;
    throw;
  }
}

bool ServerSocket::probe(std::uint64_t to, std::uint32_t worker) {
  return send(to, encode_header({.type = MessageType::kReply, .worker = worker}));
}

void ServerSocket::poll_connections() {
  monitor_->read([this](std::uint16_t event, std::uint32_t value) { on_event(event, value); });
}

void ServerSocket::on_event(std::uint16_t event, std::uint32_t value) {
  switch (event) {
    case ZMQ_EVENT_ACCEPTED:
      if (static_cast<int>(open_.size()) >= options_.max_connections) {
        // unbind() would close all connections. If the descriptor has been reused since, that
        // connection is made again.
        ::shutdown(static_cast<int>(value), SHUT_RDWR);
        rejections_.add(
            fmt::format("a connection above the limit of {}", options_.max_connections));
      }
      open_.insert(value);
      break;
    case ZMQ_EVENT_DISCONNECTED:
    case ZMQ_EVENT_CLOSED:
      open_.erase(value);
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      rejections_.add("a client whose key is not listed");
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
      rejections_.add("a connection that does not speak ZeroMQ, or has no key or a wrong one");
      break;
    default:
      break;
  }
  connections_ = static_cast<int>(open_.size());
}

}  // namespace trireme::server
