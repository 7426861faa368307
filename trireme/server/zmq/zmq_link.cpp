#include "trireme/server/zmq/zmq_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "trireme/base/error.h"
#include "trireme/base/system_error.h"
#include "trireme/server/zmq/socket_options.h"

namespace trireme::server {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr int kMostBreaks = 20;
constexpr int kMostFailedHandshakes = 3;
constexpr auto kLongestWait = 1000ms;  // in one poll

double seconds_in(std::chrono::milliseconds time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

ZmqLink::ZmqLink(std::shared_ptr<zmq::context_t> context, Options options)
    : context_(std::move(context)), options_(std::move(options)) {
  open();
  heartbeats_ = start_thread("parameter server: heartbeats", [this] { send_heartbeats(); });
}

ZmqLink::~ZmqLink() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopped_.notify_all();
  heartbeats_.join();
  close();
}

void ZmqLink::open() {
  socket_.emplace(*context_, zmq::socket_type::dealer);
  socket_->set(zmq::sockopt::linger, 0);
  socket_->set(zmq::sockopt::reconnect_ivl, 100);
  socket_->set(zmq::sockopt::reconnect_ivl_max, 2000);
  socket_->set(zmq::sockopt::handshake_ivl, 5000);
  set_liveness(*socket_, options_.dead_after);
  if (options_.keys) set_keys(*socket_, *options_.keys, options_.server_key);
  monitor_.emplace(*context_, *socket_);
  try {
    socket_->connect(options_.endpoint);
  } catch (const zmq::error_t& error) {
    throw UsageError(fmt::format("parameter server: {} cannot be reached at {}: {}", options_.name,
                                 options_.endpoint, error.what()));
  }
  is_connected_ = false;
  is_broken_ = false;
  away_since_ = Clock::now();
}

// Afterwards the caller's payloads are not accessed any more.
void ZmqLink::close() {
  monitor_.reset();
  socket_.reset();
  for (int i = 0; zero_copies_->load() > 0 && i < 20000; ++i) std::this_thread::sleep_for(100us);
}

void ZmqLink::start_heartbeats(std::uint32_t worker, std::uint64_t incarnation) {
  const std::lock_guard lock(mutex_);
  ping_ = Message{.type = MessageType::kPing, .worker = worker, .incarnation = incarnation};
}

void ZmqLink::send(const Message& request, std::span<const std::span<std::byte>> outputs) {
  const std::lock_guard lock(mutex_);
  header_ = encode_header(request);
  payloads_.clear();
  for (const Part& part : request.parts) {
    if (!part.payload.empty()) payloads_.push_back(part.payload);
  }
  outputs_.assign(outputs.begin(), outputs.end());
  received_.reset();
  sequence_ = request.sequence;
  is_in_flight_ = true;
  breaks_ = 0;
  retry_after_ = options_.retry_after;
  next_retry_ = Clock::now() + retry_after_;
  if (request.worker != kObserver) {
    ping_ = Message{
        .type = MessageType::kPing, .worker = request.worker, .incarnation = request.incarnation};
  }
  if (!socket_) open();
  send_request();
}

void ZmqLink::send_request() {
  Payloads bodies;
  std::size_t bytes = header_.size();
  for (const std::span<const std::byte> payload : payloads_) {
    bytes += payload.size();
    if (payload.size() >= Payloads::kLarge) {
      bodies.add_in_place(payload, zero_copies_);
    } else {
      std::memcpy(bodies.add(payload.size()).data(), payload.data(), payload.size());
    }
  }
  std::vector<zmq::message_t> frames = bodies.take();
  const auto flags = [](bool more) {
    return more ? zmq::send_flags::dontwait | zmq::send_flags::sndmore : zmq::send_flags::dontwait;
  };
  // Fails if there is no connection and none is being made.
  bool is_sent = socket_->send(zmq::buffer(header_), flags(!frames.empty())).has_value();
  for (std::size_t i = 0; i < frames.size() && is_sent; ++i) {
    is_sent = socket_->send(frames[i], flags(i + 1 < frames.size())).has_value();
  }
  if (!is_sent) is_broken_ = true;
  traffic_.sent += static_cast<std::int64_t>(bytes);
}

// Over a new connection: what the old one has not sent of the request is dropped.
void ZmqLink::send_again() {
  const Time away = away_since_;
  const bool was_away = !is_connected_;
  close();
  open();
  if (was_away) away_since_ = away;
  send_request();
}

Message ZmqLink::receive(Deadline deadline) {
  const std::lock_guard lock(mutex_);
  // After TimedOut: the caller waits longer.
  if (!socket_) {
    open();
    send_request();
  }
  for (;;) {
    while (socket_->get(zmq::sockopt::events) & ZMQ_POLLIN) {
      if (auto reply = take()) {
        is_in_flight_ = false;
        // Of a request that was sent twice a copy may be unsent.
        if (zero_copies_->load() > 0 && breaks_ > 0) close();
        return std::move(*reply);
      }
    }
    monitor_->read([this](std::uint16_t event, std::uint32_t value) { on_event(event, value); });
    const Time now = Clock::now();
    check_connection(now);
    check_time(now, deadline);
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(next_event(deadline) - now);
    std::array<zmq::pollitem_t, 2> items = {
        {{socket_->handle(), 0, ZMQ_POLLIN, 0}, monitor_->poll_item()}};
    zmq::poll(items.data(), items.size(),
              std::clamp<std::chrono::milliseconds>(wait, 1ms, kLongestWait));
  }
}

// Returns the reply to the request, if it has come.
std::optional<Message> ZmqLink::take() {
  std::vector<zmq::message_t> frames;
  zmq::message_t frame;
  do {
    if (!socket_->recv(frame, zmq::recv_flags::dontwait)) return std::nullopt;
    frames.push_back(std::move(frame));
  } while (frames.back().more());
  return read(std::move(frames));
}

std::optional<Message> ZmqLink::read(std::vector<zmq::message_t> frames) {
  ReceivedMessage received(std::move(frames));
  traffic_.received += static_cast<std::int64_t>(received.bytes());
  breaks_ = 0;
  try {
    Message message = decode(received.header(), received.bodies());
    if (message.is_degraded && options_.pair) options_.pair->degraded = this;
    if (message.sequence == 0) waiting_for_ = message.waiting_for;
    // Replies to pings have 0; other numbers are of requests that have been replied to before.
    if (!is_in_flight_ || message.sequence != sequence_) {
      if (message.type == MessageType::kError && message.sequence == 0)
        throw DataError(message.reason);
      return std::nullopt;
    }
    received_ = std::move(received);
    copy_values(message);
    return message;
  } catch (const DataError& error) {
    close();
    throw DataError(fmt::format("{}: {}", options_.name, error.what()));
  }
}

void ZmqLink::copy_values(Message& reply) {
  if (reply.type == MessageType::kError) return;
  if (reply.parts.size() != outputs_.size()) {
    throw DataError(fmt::format("message: a reply of {} parts is wanted, got {}", outputs_.size(),
                                reply.parts.size()));
  }
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    Part& part = reply.parts[i];
    const std::size_t bytes = part.payload.size();
    if (bytes > outputs_[i].size() ||
        (bytes < outputs_[i].size() && part.kind != PartKind::kReadKeys)) {
      throw DataError(fmt::format("message: {} bytes of part {} are wanted, got {}",
                                  outputs_[i].size(), i, bytes));
    }
    if (bytes > 0) std::memcpy(outputs_[i].data(), part.payload.data(), bytes);
    part.payload = outputs_[i].first(bytes);
  }
}

void ZmqLink::on_event(std::uint16_t event, std::uint32_t) {
  switch (event) {
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
      is_connected_ = true;
      was_connected_ = true;
      failed_handshakes_ = 0;
      break;
    case ZMQ_EVENT_DISCONNECTED:
      if (is_connected_) {
        is_connected_ = false;
        is_broken_ = true;
        away_since_ = Clock::now();
      }
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      key_rejected_ = true;
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
      // ZeroMQ does not reconnect.
      failed_handshakes_ = kMostFailedHandshakes;
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
      // Of a server that was reached before: it is ending, and will be lost after a while.
      if (!was_connected_) ++failed_handshakes_;
      break;
    default:
      break;
  }
}

void ZmqLink::fail(const std::string& what) {
  close();
  is_in_flight_ = false;
  throw CommError(fmt::format("parameter server: {}", what));
}

void ZmqLink::check_connection(Time now) {
  if (key_rejected_) {
    fail(
        fmt::format("{} does not accept the key {}; put its NAME.key into the folder that the "
                    "server was given as --clients",
                    options_.name, options_.keys ? options_.keys->public_key : "of this worker"));
  }
  if (failed_handshakes_ >= kMostFailedHandshakes) {
    fail(options_.keys
             ? fmt::format("{} breaks off the handshake: {} is not its public key, or it is not a "
                           "server of trireme",
                           options_.name, options_.server_key)
             : fmt::format("{} breaks off the handshake: it wants a key, and this worker has none",
                           options_.name));
  }
  if (is_connected_ && !is_broken_) return;
  if (is_broken_ && ++breaks_ > kMostBreaks) {
    fail(fmt::format(
        "{} has closed the connection {} times while {} bytes were being sent; is that more than "
        "its --max-message-bytes?",
        options_.name, breaks_, header_.size()));
  }
  if (is_broken_) return send_again();
  const auto away = now - away_since_;
  if (was_connected_ && away > options_.lost_after) {
    fail(
        fmt::format("{} is lost: its connection has closed, and no server has replied there for "
                    "{:.3g} s; start "
                    "it again with `trireme serve --restore` and resume from the last checkpoint",
                    options_.name, seconds_in(options_.lost_after)));
  }
  if (!was_connected_ && away > options_.connect_timeout) {
    fail(fmt::format(
        "no server replies at {} ({}) within {:.3g} s; is `trireme serve` running there?",
        options_.endpoint, options_.name, seconds_in(options_.connect_timeout)));
  }
}

void ZmqLink::check_time(Time now, Deadline deadline) {
  if (now >= deadline) {
    // The exception returns the payloads to the caller; a longer wait sends them again.
    if (zero_copies_->load() > 0) close();
    throw TimedOut{};
  }
  if (now >= next_ping_) ping(now);
  if (now < next_retry_) return;
  retry_after_ *= 2;
  next_retry_ = now + retry_after_;
  // Not while the request is still being sent.
  if (is_connected_ && zero_copies_->load() == 0) send_again();
}

ZmqLink::Time ZmqLink::next_event(Deadline deadline) const {
  const Time next = std::min({deadline, next_ping_, next_retry_});
  if (is_connected_) return next;
  const auto limit = was_connected_ ? options_.lost_after : options_.connect_timeout;
  return std::min(next, away_since_ + limit + 1ms);
}

void ZmqLink::ping(Time now) {
  next_ping_ = now + kHeartbeat;
  // Without a connection they would queue up.
  if (!ping_ || !socket_ || !is_connected_) return;
  if (options_.pair) {
    const ZmqLink* const degraded = options_.pair->degraded;
    const bool is_superseded = degraded != nullptr && degraded != this;
    ping_->type = is_superseded ? MessageType::kSuperseded : MessageType::kPing;
  }
  const std::string header = encode_header(*ping_);
  socket_->send(zmq::buffer(header), zmq::send_flags::dontwait);
  traffic_.sent += static_cast<std::int64_t>(header.size());
}

void ZmqLink::send_heartbeats() {
  std::unique_lock lock(mutex_, std::defer_lock);
  for (;;) {
    // The thread that holds it, in receive(), sends heartbeats itself.
    if (!lock.try_lock()) {
      std::this_thread::sleep_for(10ms);
      continue;
    }
    if (stop_) return;
    if (socket_ && monitor_) {
      monitor_->read([this](std::uint16_t event, std::uint32_t value) { on_event(event, value); });
      if (!is_in_flight_) {
        is_broken_ = false;
        try {
          while (socket_ && socket_->get(zmq::sockopt::events) & ZMQ_POLLIN) take();
        } catch (const DataError&) {
          // The next request throws it as well.
        }
      }
      if (const Time now = Clock::now(); now >= next_ping_) ping(now);
    }
    stopped_.wait_for(lock, kHeartbeat / 4);
    lock.unlock();
  }
}

std::string ZmqLink::waiting_for() {
  const std::lock_guard lock(mutex_);
  return waiting_for_;
}

Traffic ZmqLink::traffic() const {
  const std::lock_guard lock(mutex_);
  return traffic_;
}

}  // namespace trireme::server
