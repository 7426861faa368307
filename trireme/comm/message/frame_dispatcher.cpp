#include "trireme/comm/message/frame_dispatcher.h"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/base/system_error.h"

namespace trireme::message {

namespace {

constexpr std::chrono::milliseconds kTickInterval{50};
constexpr std::chrono::milliseconds kHeartbeatInterval{1000};
constexpr std::chrono::milliseconds kShutdownTimeout{500};

}  // namespace

FrameDispatcher::FrameDispatcher(std::unique_ptr<Transport> transport, const Clock& clock,
                                 std::chrono::milliseconds heartbeat_timeout)
    : transport_(std::move(transport)),
      clock_(clock),
      heartbeat_timeout_(heartbeat_timeout),
      peers_(static_cast<std::size_t>(transport_->size())),
      last_heard_(peers_.size(), clock_.now()),
      last_tick_(clock_.now()),
      next_heartbeat_(last_tick_ + kHeartbeatInterval) {
  thread_ = start_thread("communicator", [this] { receive_frames(); });
}

FrameDispatcher::~FrameDispatcher() {
  send_to_all(FrameKind::kShutdown);
  {
    std::unique_lock lock(mutex_);
    peers_[static_cast<std::size_t>(transport_->rank())].has_acknowledged = true;
    changed_.wait_for(lock, kShutdownTimeout, [&] {
      return std::ranges::all_of(
          peers_, [](const Peer& peer) { return peer.is_gone || peer.has_acknowledged; });
    });
    is_closing_ = true;
  }
  thread_.join();
}

void FrameDispatcher::receive_frames() {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (is_closing_) return;
    }
    if (const auto arrival = transport_->next_frame(kTickInterval)) receive(*arrival);
    const Clock::Time now = clock_.now();
    if (now >= last_tick_ + kTickInterval) tick(now);
    if (now >= next_heartbeat_) {
      send_to_all(FrameKind::kHeartbeat);
      next_heartbeat_ = now + kHeartbeatInterval;
    }
  }
}

void FrameDispatcher::receive(const Arrival& arrival) {
  const std::lock_guard lock(mutex_);
  Peer& peer = peers_[static_cast<std::size_t>(arrival.from)];
  last_heard_[static_cast<std::size_t>(arrival.from)] = clock_.now();
  if (!arrival.lost.empty()) {
    mark_gone(arrival.from, peer.shuts_down ? "" : arrival.lost);
    return;
  }
  switch (arrival.frame.header.kind) {
    case FrameKind::kHeartbeat:
      return;
    case FrameKind::kShutdown: {
      peer.shuts_down = true;
      Frame answer;
      answer.header = {.kind = FrameKind::kShutdownAck};
      transport_->send_frame(arrival.from, answer);
      mark_gone(arrival.from, "");
      return;
    }
    case FrameKind::kShutdownAck:
      peer.has_acknowledged = true;
      changed_.notify_all();
      return;
    default:
      deliver(arrival.from, arrival.frame);
  }
}

void FrameDispatcher::deliver(int from, const Frame& frame) {
  const std::uint32_t channel = frame.header.channel;
  if (const auto listener = listeners_.find(channel); listener != listeners_.end()) {
    listener->second->on_frame(from, frame);
  } else if (!reserved_.contains(channel) || early_.contains(channel)) {
    early_[channel].emplace_back(from, frame);
  }
}

void FrameDispatcher::mark_gone(int rank, const std::string& why) {
  Peer& peer = peers_[static_cast<std::size_t>(rank)];
  if (peer.is_gone) return;
  peer.is_gone = true;
  peer.why = why;
  changed_.notify_all();
  for (const auto& [channel, listener] : listeners_) listener->on_departure(rank, why);
}

void FrameDispatcher::tick(Clock::Time now) {
  const std::lock_guard lock(mutex_);
  // If this process was stopped itself, frames of its peers may be waiting to be received.
  if (now - last_tick_ > kHeartbeatInterval) std::ranges::fill(last_heard_, now);
  last_tick_ = now;
  find_silent(now);
  for (const auto& [channel, listener] : listeners_) listener->on_tick(now, last_heard_);
}

// A cut link is silent on both sides, and TCP gives it up only after many minutes.
void FrameDispatcher::find_silent(Clock::Time now) {
  if (heartbeat_timeout_.count() == 0) return;
  for (int rank = 0; rank < transport_->size(); ++rank) {
    const auto silence = now - last_heard_[static_cast<std::size_t>(rank)];
    if (rank == transport_->rank() || silence < heartbeat_timeout_) continue;
    mark_gone(rank,
              fmt::format("nothing has been heard of it for {:.1f} s: its host is out of reach "
                          "or its process is stopped (heartbeat timeout {:g} s)",
                          std::chrono::duration<double>(silence).count(),
                          std::chrono::duration<double>(heartbeat_timeout_).count()));
  }
}

void FrameDispatcher::send_to_all(FrameKind kind) {
  Frame frame;
  frame.header = {.kind = kind};
  for (int rank = 0; rank < transport_->size(); ++rank) {
    if (rank != transport_->rank()) transport_->send_frame(rank, frame);
  }
}

void FrameDispatcher::enter(std::uint32_t channel, FrameListener& listener) {
  const std::lock_guard lock(mutex_);
  for (const auto& [from, frame] : early_[channel]) listener.on_frame(from, frame);
  early_.erase(channel);
  for (int rank = 0; rank < transport_->size(); ++rank) {
    const Peer& peer = peers_[static_cast<std::size_t>(rank)];
    if (peer.is_gone) listener.on_departure(rank, peer.why);
  }
  listeners_[channel] = &listener;
}

void FrameDispatcher::leave(std::uint32_t channel) {
  const std::lock_guard lock(mutex_);
  listeners_.erase(channel);
}

std::uint32_t FrameDispatcher::propose() {
  const std::lock_guard lock(mutex_);
  return reserved_.empty() ? 0 : *reserved_.rbegin() + 1;
}

// From this call on, frames of the channel are stored until its communicator enters.
bool FrameDispatcher::reserve(std::uint32_t channel) {
  const std::lock_guard lock(mutex_);
  if (!reserved_.insert(channel).second) return false;
  early_[channel];
  return true;
}

void FrameDispatcher::give_back(std::uint32_t channel) {
  const std::lock_guard lock(mutex_);
  reserved_.erase(channel);
}

}  // namespace trireme::message
