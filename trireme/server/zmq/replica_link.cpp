#include "trireme/server/zmq/replica_link.h"

#include <fmt/format.h>

#include <cstring>
#include <random>

#include "trireme/base/error.h"
#include "trireme/server/zmq/frames.h"
#include "trireme/server/zmq/socket_options.h"

namespace trireme::server {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kReopenAfter = 100ms;

}  // namespace

ReplicaLink::ReplicaLink(zmq::context_t& context, Options options)
    : context_(context),
      options_(std::move(options)),
      incarnation_((std::uint64_t{std::random_device{}()} << 32 | std::random_device{}()) | 1),
      away_since_(Clock::now()) {
  open();
}

ReplicaLink::~ReplicaLink() {
  close();
}

void ReplicaLink::open() {
  socket_.emplace(context_, zmq::socket_type::dealer);
  socket_->set(zmq::sockopt::linger, 0);
  // The replies that workers wait for bound the entries in flight.
  socket_->set(zmq::sockopt::sndhwm, 0);
  // A new connection must begin with the first missing entry: ZeroMQ must not reconnect by itself.
  socket_->set(zmq::sockopt::reconnect_ivl, -1);
  socket_->set(zmq::sockopt::handshake_ivl, 5000);
  set_liveness(*socket_, options_.dead_after);
  if (options_.keys) set_keys(*socket_, *options_.keys, options_.replica_key);
  monitor_.emplace(context_, *socket_);
  try {
    socket_->connect(options_.endpoint);
  } catch (const zmq::error_t& error) {
    throw UsageError(fmt::format("{} cannot be reached: {}", options_.name, error.what()));
  }
  is_broken_ = false;
  is_replicating_ = false;
  heard_ = Clock::now();
  next_ping_ = heard_ + kHeartbeat;
  send({.type = MessageType::kReplicate,
        .worker = kObserver,
        .incarnation = incarnation_,
        .sequence = 1,
        .version = options_.version,
        .entry = acknowledged_ + 1,
        .shard = {options_.shard, options_.shards}});
  for (Entry& entry : entries_) send(entry);
}

void ReplicaLink::close() {
  monitor_.reset();
  socket_.reset();
  is_replicating_ = false;
}

void ReplicaLink::append(const Message& message) {
  if (is_given_up_) return;
  Entry entry{.number = ++appended_, .frames = {}};
  const std::string header = encode_header(message);
  Payloads bodies;
  for (const Part& part : message.parts) {
    if (part.payload.empty()) continue;
    std::memcpy(bodies.add(part.payload.size()).data(), part.payload.data(), part.payload.size());
  }
  entry.frames = bodies.take();
  entry.frames.emplace(entry.frames.begin(), header.data(), header.size());
  if (socket_) send(entry);
  entries_.push_back(std::move(entry));
}

// Sends copies of the frames: if the connection has closed, the entry is sent over the next one.
void ReplicaLink::send(Entry& entry) {
  for (std::size_t i = 0; i < entry.frames.size() && !is_broken_; ++i) {
    zmq::message_t frame;
    frame.copy(entry.frames[i]);
    auto flags = zmq::send_flags::dontwait;
    if (i + 1 < entry.frames.size()) flags = flags | zmq::send_flags::sndmore;
    if (!socket_->send(frame, flags)) is_broken_ = true;
  }
}

void ReplicaLink::send(const Message& message) {
  const std::string header = encode_header(message);
  if (!socket_->send(zmq::buffer(header), zmq::send_flags::dontwait)) is_broken_ = true;
}

void ReplicaLink::add_poll_items(std::vector<zmq::pollitem_t>& items) {
  if (!socket_) return;
  items.push_back({socket_->handle(), 0, ZMQ_POLLIN, 0});
  items.push_back(monitor_->poll_item());
}

void ReplicaLink::poll() {
  if (is_given_up_) return;
  if (socket_) {
    receive();
    monitor_->read([this](std::uint16_t event, std::uint32_t) { on_event(event); });
  }
  check_time();
}

void ReplicaLink::receive() {
  zmq::message_t frame;
  while (socket_->recv(frame, zmq::recv_flags::dontwait)) {
    if (frame.more()) {
      throw DataError(fmt::format("{}: sent more than an acknowledgment", options_.name));
    }
    const Message reply = decode({frame.data<std::byte>(), frame.size()}, {});
    heard_ = Clock::now();
    if (reply.type == MessageType::kError) {
      throw CommError(fmt::format("{} does not replicate: {}", options_.name, reply.reason));
    }
    if (reply.entry > 0) {
      while (!entries_.empty() && entries_.front().number <= reply.entry) entries_.pop_front();
      acknowledged_ = std::max(acknowledged_, reply.entry);
    } else if (reply.sequence > 0) {  // to kReplicate; the reply to a heartbeat has 0
      if (!has_replicated_ && options_.log)
        options_.log(fmt::format("{} replicates", options_.name));
      is_replicating_ = has_replicated_ = true;
    }
  }
}

void ReplicaLink::on_event(std::uint16_t event) {
  switch (event) {
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      throw CommError(
          fmt::format("{} does not accept the key {}; put it into the folder that the replica was "
                      "given as --clients",
                      options_.name, options_.keys ? options_.keys->public_key : "of this server"));
    case ZMQ_EVENT_DISCONNECTED:
    case ZMQ_EVENT_CLOSED:
    case ZMQ_EVENT_CONNECT_RETRIED:
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
      is_broken_ = true;
      break;
    default:
      break;
  }
}

void ReplicaLink::check_time() {
  const Time now = Clock::now();
  if (is_broken_ && socket_) {
    if (is_replicating_) away_since_ = now;
    close();
    next_open_ = now + kReopenAfter;
  }
  if (!socket_ && now >= next_open_) open();
  if (is_replicating_ && now - heard_ > options_.dead_after) {
    away_since_ = heard_;
    close();
  }
  if (is_replicating_) {
    if (now < next_ping_) return;
    next_ping_ = now + kHeartbeat;
    return send({.type = MessageType::kPing, .worker = kObserver, .incarnation = incarnation_});
  }
  const auto away = now - away_since_;
  if (!has_replicated_ && away > options_.connect_timeout) {
    throw CommError(fmt::format(
        "{} does not reply within {:.3g} s; is `trireme serve --standby` running there?",
        options_.name, std::chrono::duration<double>(options_.connect_timeout).count()));
  }
  if (!has_replicated_ || away <= options_.lost_after) return;
  is_given_up_ = true;
  entries_.clear();
  close();
  if (options_.log) options_.log(fmt::format("{} is lost; continuing without it", options_.name));
}

}  // namespace trireme::server
