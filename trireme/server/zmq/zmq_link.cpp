#include "trireme/server/zmq/zmq_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "trireme/base/error.h"
#include "trireme/server/zmq/wire.h"

namespace trireme::server {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr int kMostBreaks = 20;
constexpr int kMostRefusedHandshakes = 3;
constexpr auto kLongestWait = 1000ms;  // in one poll

double seconds(std::chrono::milliseconds time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

ZmqLink::ZmqLink(std::shared_ptr<zmq::context_t> context, Options options)
    : context_(std::move(context)), options_(std::move(options)) {
  open();
  heart_ = std::thread([this] { beat(); });
}

ZmqLink::~ZmqLink() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopped_.notify_all();
  heart_.join();
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

// Afterwards nothing looks into the caller's payloads any more.
void ZmqLink::close() {
  monitor_.reset();
  socket_.reset();
  for (int i = 0; lent_->load() > 0 && i < 20000; ++i) std::this_thread::sleep_for(100us);
}

void ZmqLink::stand_by(std::uint32_t worker, std::uint64_t life) {
  const std::lock_guard lock(mutex_);
  ping_ = Message{.verb = Verb::kPing, .worker = worker, .life = life};
}

void ZmqLink::send(const Message& request, std::span<const std::span<std::byte>> wanted) {
  const std::lock_guard lock(mutex_);
  head_ = encode_head(request);
  payloads_.clear();
  for (const Part& part : request.parts) {
    if (!part.payload.empty()) payloads_.push_back(part.payload);
  }
  wanted_.assign(wanted.begin(), wanted.end());
  arrived_.reset();
  sequence_ = request.sequence;
  is_under_way_ = true;
  broken_ = 0;
  retry_after_ = options_.retry_after;
  next_retry_ = Clock::now() + retry_after_;
  if (request.worker != kObserver) {
    ping_ = Message{.verb = Verb::kPing, .worker = request.worker, .life = request.life};
  }
  if (!socket_) open();
  send_request();
}

void ZmqLink::send_request() {
  Payloads bodies;
  std::size_t bytes = head_.size();
  for (const std::span<const std::byte> payload : payloads_) {
    bytes += payload.size();
    if (payload.size() >= Payloads::kLarge) {
      bodies.lend(payload, lent_);
    } else {
      std::memcpy(bodies.add(payload.size()).data(), payload.data(), payload.size());
    }
  }
  std::vector<zmq::message_t> frames = bodies.take();
  const auto flags = [](bool more) {
    return more ? zmq::send_flags::dontwait | zmq::send_flags::sndmore : zmq::send_flags::dontwait;
  };
  // Without a connection, not even one that is being made, nothing can be sent.
  bool is_sent = socket_->send(zmq::buffer(head_), flags(!frames.empty())).has_value();
  for (std::size_t i = 0; i < frames.size() && is_sent; ++i) {
    is_sent = socket_->send(frames[i], flags(i + 1 < frames.size())).has_value();
  }
  if (!is_sent) is_broken_ = true;
  traffic_.sent += static_cast<std::int64_t>(bytes);
}

// Over a new connection: what is left of the request in the old one is forgotten.
void ZmqLink::send_again() {
  const Time away = away_since_;
  const bool was_away = !is_connected_;
  close();
  open();
  if (was_away) away_since_ = away;
  send_request();
}

Message ZmqLink::answer(Deadline deadline) {
  const std::lock_guard lock(mutex_);
  // After TimedOut: the caller waits on.
  if (!socket_) {
    open();
    send_request();
  }
  for (;;) {
    while (socket_->get(zmq::sockopt::events) & ZMQ_POLLIN) {
      if (auto answer = take()) {
        is_under_way_ = false;
        // Left over where it was sent twice.
        if (lent_->load() > 0 && broken_ > 0) close();
        return std::move(*answer);
      }
    }
    monitor_->read([this](std::uint16_t event, std::uint32_t value) { see(event, value); });
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

// The answer to the request, if that is what has come.
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
  Arrived arrived(std::move(frames));
  traffic_.received += static_cast<std::int64_t>(arrived.bytes());
  broken_ = 0;
  try {
    Message message = decode(arrived.head(), arrived.bodies());
    if (message.verb == Verb::kAlone) {
      message.verb = Verb::kAnswer;
      if (options_.pair) options_.pair->alone = this;
    }
    if (message.sequence == 0) awaited_ = message.text;
    // Pings are answered with 0; others have been answered before.
    if (!is_under_way_ || message.sequence != sequence_) {
      if (message.verb == Verb::kRefusal && message.sequence == 0) throw DataError(message.text);
      return std::nullopt;
    }
    arrived_ = std::move(arrived);
    place(message);
    return message;
  } catch (const DataError& error) {
    close();
    throw DataError(fmt::format("{}: {}", options_.name, error.what()));
  }
}

void ZmqLink::place(Message& answer) {
  if (answer.verb == Verb::kRefusal) return;
  if (answer.parts.size() != wanted_.size()) {
    throw DataError(fmt::format("message: an answer of {} parts is wanted, got {}", wanted_.size(),
                                answer.parts.size()));
  }
  for (std::size_t i = 0; i < wanted_.size(); ++i) {
    Part& part = answer.parts[i];
    const std::size_t bytes = part.payload.size();
    if (bytes > wanted_[i].size() || (bytes < wanted_[i].size() && part.form != Form::kAllKeys)) {
      throw DataError(fmt::format("message: {} bytes of part {} are wanted, got {}",
                                  wanted_[i].size(), i, bytes));
    }
    if (bytes > 0) std::memcpy(wanted_[i].data(), part.payload.data(), bytes);
    part.payload = wanted_[i].first(bytes);
  }
}

void ZmqLink::see(std::uint16_t event, std::uint32_t) {
  switch (event) {
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
      is_connected_ = true;
      was_connected_ = true;
      refused_handshakes_ = 0;
      break;
    case ZMQ_EVENT_DISCONNECTED:
      if (is_connected_) {
        is_connected_ = false;
        is_broken_ = true;
        away_since_ = Clock::now();
      }
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      key_refused_ = true;
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
      // ZeroMQ does not try that again.
      refused_handshakes_ = kMostRefusedHandshakes;
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
      // Or a server that has just ended: it counts as lost in time.
      if (!was_connected_) ++refused_handshakes_;
      break;
    default:
      break;
  }
}

void ZmqLink::fail(const std::string& what) {
  close();
  is_under_way_ = false;
  throw CommError(fmt::format("parameter server: {}", what));
}

void ZmqLink::check_connection(Time now) {
  if (key_refused_) {
    fail(
        fmt::format("{} does not let the key {} in; put its NAME.key into the folder that the "
                    "server was given as --clients",
                    options_.name, options_.keys ? options_.keys->public_key : "of this worker"));
  }
  if (refused_handshakes_ >= kMostRefusedHandshakes) {
    fail(options_.keys
             ? fmt::format("{} breaks off the handshake: {} is not its public key, or it is no "
                           "server of trireme's",
                           options_.name, options_.server_key)
             : fmt::format("{} breaks off the handshake: it wants a key, and this worker was given "
                           "none",
                           options_.name));
  }
  if (is_connected_ && !is_broken_) return;
  if (is_broken_ && ++broken_ > kMostBreaks) {
    fail(fmt::format(
        "{} has closed the connection {} times while {} bytes were on their way; is that more than "
        "its --max-message-bytes?",
        options_.name, broken_, head_.size()));
  }
  if (is_broken_) return send_again();
  const auto away = now - away_since_;
  if (was_connected_ && away > options_.lost_after) {
    fail(fmt::format(
        "{} is lost: its connection has closed, and nobody has answered there for {:.3g} s; start "
        "it again with `trireme serve --restore` and resume from the last checkpoint",
        options_.name, seconds(options_.lost_after)));
  }
  if (!was_connected_ && away > options_.connect_timeout) {
    fail(fmt::format("nobody answers at {} ({}) within {:.3g} s; is `trireme serve` running there?",
                     options_.endpoint, options_.name, seconds(options_.connect_timeout)));
  }
}

void ZmqLink::check_time(Time now, Deadline deadline) {
  if (now >= deadline) {
    // What was lent goes back with the exception; it is sent again if the caller waits on.
    if (lent_->load() > 0) close();
    throw TimedOut{};
  }
  if (now >= next_ping_) ping(now);
  if (now < next_retry_) return;
  retry_after_ *= 2;
  next_retry_ = now + retry_after_;
  // Not while it is still on its way.
  if (is_connected_ && lent_->load() == 0) send_again();
}

ZmqLink::Time ZmqLink::next_event(Deadline deadline) const {
  const Time next = std::min({deadline, next_ping_, next_retry_});
  if (is_connected_) return next;
  const auto patience = was_connected_ ? options_.lost_after : options_.connect_timeout;
  return std::min(next, away_since_ + patience + 1ms);
}

void ZmqLink::ping(Time now) {
  next_ping_ = now + kHeartbeat;
  // Without a connection they would only pile up.
  if (!ping_ || !socket_ || !is_connected_) return;
  if (options_.pair) {
    const ZmqLink* const alone = options_.pair->alone;
    ping_->verb = alone == nullptr || alone == this ? Verb::kPing : Verb::kAlone;
  }
  const std::string head = encode_head(*ping_);
  socket_->send(zmq::buffer(head), zmq::send_flags::dontwait);
  traffic_.sent += static_cast<std::int64_t>(head.size());
}

void ZmqLink::beat() {
  std::unique_lock lock(mutex_, std::defer_lock);
  for (;;) {
    // Whoever holds it pings by itself.
    if (!lock.try_lock()) {
      std::this_thread::sleep_for(10ms);
      continue;
    }
    if (stop_) return;
    if (socket_ && monitor_) {
      monitor_->read([this](std::uint16_t event, std::uint32_t value) { see(event, value); });
      if (!is_under_way_) {
        is_broken_ = false;
        try {
          while (socket_ && socket_->get(zmq::sockopt::events) & ZMQ_POLLIN) take();
        } catch (const DataError&) {
          // The next request meets it too.
        }
      }
      if (const Time now = Clock::now(); now >= next_ping_) ping(now);
    }
    stopped_.wait_for(lock, kHeartbeat / 4);
    lock.unlock();
  }
}

std::string ZmqLink::ask_what_is_awaited() {
  const std::lock_guard lock(mutex_);
  return awaited_;
}

Traffic ZmqLink::traffic() const {
  const std::lock_guard lock(mutex_);
  return traffic_;
}

}  // namespace trireme::server
