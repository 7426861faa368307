#include "trireme/server/zmq/server_socket.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/server/message.h"
#include "trireme/server/zmq/wire.h"

namespace trireme::server {

namespace {

constexpr std::size_t kLargestHead = std::size_t{16} << 20;
constexpr std::size_t kMostFrames = 65536;
constexpr int kQueued = 8;  // messages a connection may have under way, each way

// Identities that ZeroMQ gives itself: a zero and four bytes.
std::optional<std::uint64_t> number_of(const zmq::message_t& identity) {
  if (identity.size() != 5 || *identity.data<char>() != 0) return std::nullopt;
  std::uint64_t number = 0;
  std::memcpy(&number, identity.data(), identity.size());
  return number;
}

zmq::message_t identity_of(std::uint64_t number) {
  return {&number, 5};
}

// Of the key with which a frame was sent; null without keys.
const char* name_of(const zmq::message_t& frame) {
  return zmq_msg_gets(frame.handle(), "User-Id");
}

}  // namespace

ServerSocket::ServerSocket(zmq::context_t& context, const ZmqServer::Options& options,
                           Refusals& refusals)
    : options_(options), refusals_(refusals) {
  if (!options_.secret_key.empty()) {
    keys_ = read_key_pair(options_.secret_key);
    doorkeeper_.emplace(context, options_.clients);
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
  // Its last bytes may include a zero.
  endpoint_.resize(std::strlen(endpoint_.c_str()));
  monitor_.emplace(context, socket_);
}

void ServerSocket::configure() {
  socket_.set(zmq::sockopt::linger, 1000);
  // An answer to who is gone is an error here, which shows that it is.
  socket_.set(zmq::sockopt::router_mandatory, true);
  socket_.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(options_.max_message_bytes));
  socket_.set(zmq::sockopt::rcvhwm, kQueued);
  socket_.set(zmq::sockopt::sndhwm, kQueued);
  socket_.set(zmq::sockopt::backlog, 64);
  socket_.set(zmq::sockopt::handshake_ivl, 5000);
  set_liveness(socket_, options_.dead_after);
  if (options_.secret_key.empty()) return;
  socket_.set(zmq::sockopt::curve_server, true);
  socket_.set(zmq::sockopt::curve_secretkey, keys_.secret_key);
  socket_.set(zmq::sockopt::zap_domain, Doorkeeper::kDomain);
}

void ServerSocket::add_poll_items(std::vector<zmq::pollitem_t>& items) {
  items.push_back({socket_.handle(), 0, ZMQ_POLLIN, 0});
  items.push_back(monitor_->poll_item());
}

bool ServerSocket::take_one(const Handler& handler) {
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
    // The rest of one that is refused is taken out all the same.
    if (frames.size() < kMostFrames && bytes <= options_.max_message_bytes) {
      frames.push_back(std::move(frame));
    }
  }
  const auto from = number_of(identity);
  if (!from) {
    refusals_.add("a client that chose its own identity");
  } else if (frames.empty() || frames.size() == kMostFrames ||
             frames.front().size() > kLargestHead) {
    refusals_.add("a message whose frames are none of trireme's");
  } else if (bytes > options_.max_message_bytes) {
    refuse_size(*from, frames.front(), bytes);
  } else if (const char* const name = name_of(frames.front());
             name == nullptr && !keys_.public_key.empty()) {
    // Without a doorkeeper libzmq would let everybody in.
    refusals_.add("a client that nobody has let in");
  } else {
    handler(
        {.from = *from, .client_name = name == nullptr ? "" : name, .frames = std::move(frames)});
  }
  return true;
}

// A good worker with a model that is too large is told so.
void ServerSocket::refuse_size(std::uint64_t from, const zmq::message_t& head, std::size_t bytes) {
  const std::string why = fmt::format(
      "server {} of {}: takes messages of {} bytes (--max-message-bytes), got {}; use more "
      "shards or a higher limit",
      options_.shard, options_.shards, options_.max_message_bytes, bytes);
  refusals_.add(why);
  send(from, encode_head({.verb = Verb::kRefusal,
                          .sequence = sequence_in({head.data<std::byte>(), head.size()}),
                          .clock = kUsageFault,
                          .text = why}));
}

bool ServerSocket::send(std::uint64_t to, const std::string& head,
                        std::vector<zmq::message_t> bodies) {
  const auto flags = [](bool more) {
    return more ? zmq::send_flags::dontwait | zmq::send_flags::sndmore : zmq::send_flags::dontwait;
  };
  try {
    zmq::message_t identity = identity_of(to);
    if (!socket_.send(identity, flags(true))) {
      // ZeroMQ looks once in a millisecond at most how much of its queue has gone: make it look.
      static_cast<void>(socket_.get(zmq::sockopt::events));
      if (!socket_.send(identity, flags(true))) return true;
    }
    zmq::message_t first(head.data(), head.size());
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
  return send(to, encode_head({.verb = Verb::kAnswer, .worker = worker}));
}

void ServerSocket::look() {
  monitor_->read([this](std::uint16_t event, std::uint32_t value) { see(event, value); });
}

void ServerSocket::see(std::uint16_t event, std::uint32_t value) {
  switch (event) {
    case ZMQ_EVENT_ACCEPTED:
      if (static_cast<int>(open_.size()) >= options_.max_connections) {
        // Not unbind(): it would end all connections. Should the descriptor be another one's by
        // now, that one connects again.
        ::shutdown(static_cast<int>(value), SHUT_RDWR);
        refusals_.add(fmt::format("a connection beyond {}", options_.max_connections));
      }
      open_.insert(value);
      break;
    case ZMQ_EVENT_DISCONNECTED:
    case ZMQ_EVENT_CLOSED:
      open_.erase(value);
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      refusals_.add("a client whose key is not listed");
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
      refusals_.add("a connection that speaks no ZeroMQ, or has no key or a wrong one");
      break;
    default:
      break;
  }
  connections_ = static_cast<int>(open_.size());
}

}  // namespace trireme::server
