#include "trireme/server/zmq/backup_link.h"

#include <fmt/format.h>

#include <cstring>
#include <random>

#include "trireme/base/error.h"
#include "trireme/server/zmq/frames.h"
#include "trireme/server/zmq/wire.h"

namespace trireme::server {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kOpenAgainAfter = 100ms;

double seconds(std::chrono::milliseconds time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

BackupLink::BackupLink(zmq::context_t& context, Options options)
    : context_(context),
      options_(std::move(options)),
      life_((std::uint64_t{std::random_device{}()} << 32 | std::random_device{}()) | 1),
      away_since_(Clock::now()) {
  open();
}

BackupLink::~BackupLink() {
  close();
}

void BackupLink::open() {
  socket_.emplace(context_, zmq::socket_type::dealer);
  socket_->set(zmq::sockopt::linger, 0);
  // Bounded by what the workers wait for.
  socket_->set(zmq::sockopt::sndhwm, 0);
  // A new connection begins with the first entry that is missing: never by itself.
  socket_->set(zmq::sockopt::reconnect_ivl, -1);
  socket_->set(zmq::sockopt::handshake_ivl, 5000);
  set_liveness(*socket_, options_.dead_after);
  if (options_.keys) set_keys(*socket_, *options_.keys, options_.backup_key);
  monitor_.emplace(context_, *socket_);
  try {
    socket_->connect(options_.endpoint);
  } catch (const zmq::error_t& error) {
    throw UsageError(fmt::format("{} cannot be reached: {}", options_.name, error.what()));
  }
  is_broken_ = false;
  follows_ = false;
  heard_ = Clock::now();
  next_ping_ = heard_ + kHeartbeat;
  say(encode_head({.verb = Verb::kFollow,
                   .worker = kObserver,
                   .life = life_,
                   .sequence = acknowledged_ + 1,
                   .clock = options_.version,
                   .parts = {{.first = options_.shard, .count = options_.shards}}}));
  for (Entry& entry : entries_) send(entry);
}

void BackupLink::close() {
  monitor_.reset();
  socket_.reset();
  follows_ = false;
}

void BackupLink::append(const Message& message) {
  if (is_given_up_) return;
  Entry entry{.number = ++appended_, .frames = {}};
  const std::string head = encode_head(message);
  Payloads bodies;
  for (const Part& part : message.parts) {
    if (part.payload.empty()) continue;
    std::memcpy(bodies.add(part.payload.size()).data(), part.payload.data(), part.payload.size());
  }
  entry.frames = bodies.take();
  entry.frames.emplace(entry.frames.begin(), head.data(), head.size());
  if (socket_) send(entry);
  entries_.push_back(std::move(entry));
}

// The frames stay for another time: what does not go out now, since the connection has closed, goes
// out over the next one.
void BackupLink::send(Entry& entry) {
  for (std::size_t i = 0; i < entry.frames.size() && !is_broken_; ++i) {
    zmq::message_t frame;
    frame.copy(entry.frames[i]);
    auto flags = zmq::send_flags::dontwait;
    if (i + 1 < entry.frames.size()) flags = flags | zmq::send_flags::sndmore;
    if (!socket_->send(frame, flags)) is_broken_ = true;
  }
}

void BackupLink::say(const std::string& head) {
  if (!socket_->send(zmq::buffer(head), zmq::send_flags::dontwait)) is_broken_ = true;
}

void BackupLink::add_poll_items(std::vector<zmq::pollitem_t>& items) {
  if (!socket_) return;
  items.push_back({socket_->handle(), 0, ZMQ_POLLIN, 0});
  items.push_back(monitor_->poll_item());
}

void BackupLink::look() {
  if (is_given_up_) return;
  if (socket_) {
    take();
    monitor_->read([this](std::uint16_t event, std::uint32_t) { see(event); });
  }
  check_time();
}

void BackupLink::take() {
  zmq::message_t frame;
  while (socket_->recv(frame, zmq::recv_flags::dontwait)) {
    // An answer is a head alone.
    if (frame.more()) throw DataError(fmt::format("{}: answers more than a word", options_.name));
    const Message answer = decode({frame.data<std::byte>(), frame.size()}, {});
    heard_ = Clock::now();
    if (answer.verb == Verb::kRefusal) {
      throw CommError(fmt::format("{} refuses: {}", options_.name, answer.text));
    }
    if (answer.worker == kObserver) {  // to kFollow, or a sign of life
      if (answer.sequence > 0 && !follows_ && options_.log && !has_followed_) {
        options_.log(fmt::format("{} follows", options_.name));
      }
      if (answer.sequence > 0) follows_ = has_followed_ = true;
      continue;
    }
    while (!entries_.empty() && entries_.front().number <= answer.sequence) entries_.pop_front();
    acknowledged_ = std::max(acknowledged_, answer.sequence);
  }
}

void BackupLink::see(std::uint16_t event) {
  switch (event) {
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      throw CommError(
          fmt::format("{} does not let the key {} in; put it into the folder that the backup was "
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

void BackupLink::check_time() {
  const Time now = Clock::now();
  if (is_broken_ && socket_) {
    if (follows_) away_since_ = now;
    close();
    next_open_ = now + kOpenAgainAfter;
  }
  if (!socket_ && now >= next_open_) open();
  if (follows_ && now - heard_ > options_.dead_after) {
    away_since_ = heard_;
    close();
  }
  if (follows_) {
    if (now < next_ping_) return;
    next_ping_ = now + kHeartbeat;
    return say(encode_head({.verb = Verb::kPing, .worker = kObserver, .life = life_}));
  }
  const auto away = now - away_since_;
  if (!has_followed_ && away > options_.connect_timeout) {
    throw CommError(fmt::format(
        "{} does not answer within {:.3g} s; is `trireme serve --standby` running there?",
        options_.name, seconds(options_.connect_timeout)));
  }
  if (!has_followed_ || away <= options_.lost_after) return;
  is_given_up_ = true;
  entries_.clear();
  close();
  if (options_.log) options_.log(fmt::format("{} is lost; going on without it", options_.name));
}

}  // namespace trireme::server
