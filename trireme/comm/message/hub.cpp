#include "trireme/comm/message/hub.h"

#include <fmt/format.h>

namespace trireme::message {

namespace {

constexpr std::chrono::milliseconds kBeat{1000};
// A process that is alive is heard every second; on a machine with more work than cores, later.
constexpr std::chrono::milliseconds kSilence{2500};
constexpr std::chrono::milliseconds kFarewell{500};

Frame frame_of(FrameKind kind, std::uint64_t number = 0) {
  Frame frame;
  frame.header = {.kind = kind, .number = number};
  return frame;
}

constexpr std::uint64_t kHeard = 1;  // number of a goodbye that answers one

}  // namespace

Hub::Hub(std::unique_ptr<Transport> transport)
    : transport_(std::move(transport)), peers_(transport_->size()) {
  for (Peer& peer : peers_) peer.heard = Clock::now();
  thread_ = std::thread([this] { listen(); });
}

Hub::~Hub() {
  say_to_all(frame_of(FrameKind::kGoodbye));
  {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kFarewell, [&] {
      for (int rank = 0; rank < transport_->size(); ++rank) {
        const Peer& peer = peers_[rank];
        if (rank != transport_->rank() && !peer.gone && !peer.heard_goodbye) return false;
      }
      return true;
    });
    closing_ = true;
  }
  thread_.join();
}

void Hub::listen() {
  auto next_beat = Clock::now() + kBeat;
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (closing_) return;
    }
    if (const auto arrival = transport_->next_frame(std::chrono::milliseconds(50))) take(*arrival);
    if (const auto now = Clock::now(); now >= next_beat) {
      say_to_all(frame_of(FrameKind::kAlive));
      next_beat = now + kBeat;
    }
  }
}

void Hub::take(const Arrival& arrival) {
  const std::lock_guard lock(mutex_);
  Peer& peer = peers_[arrival.from];
  peer.heard = Clock::now();
  if (!arrival.lost.empty()) {
    end_of(arrival.from, peer.said_goodbye ? "" : arrival.lost);
    return;
  }
  switch (arrival.frame.header.kind) {
    case FrameKind::kAlive:
      return;
    case FrameKind::kGoodbye:
      if (arrival.frame.header.number == kHeard) {
        peer.heard_goodbye = true;
        changed_.notify_all();
        return;
      }
      peer.said_goodbye = true;
      transport_->send_frame(arrival.from, frame_of(FrameKind::kGoodbye, kHeard));
      end_of(arrival.from, "");
      return;
    default:
      deliver(arrival.from, arrival.frame);
  }
}

void Hub::deliver(int from, const Frame& frame) {
  const std::uint32_t channel = frame.header.channel;
  if (const auto listener = listeners_.find(channel); listener != listeners_.end()) {
    listener->second->on_frame(from, frame);
  } else if (!reserved_.contains(channel) || early_.contains(channel)) {
    early_[channel].emplace_back(from, frame);
  }
}

void Hub::end_of(int rank, const std::string& why) {
  Peer& peer = peers_[rank];
  if (peer.gone) return;
  peer.gone = true;
  peer.why = why;
  changed_.notify_all();
  for (const auto& [channel, listener] : listeners_) listener->on_gone(rank, why);
}

void Hub::say_to_all(const Frame& frame) {
  for (int rank = 0; rank < transport_->size(); ++rank) {
    if (rank != transport_->rank()) transport_->send_frame(rank, frame);
  }
}

void Hub::enter(std::uint32_t channel, Listener& listener) {
  const std::lock_guard lock(mutex_);
  for (const auto& [from, frame] : early_[channel]) listener.on_frame(from, frame);
  early_.erase(channel);
  for (int rank = 0; rank < transport_->size(); ++rank) {
    if (peers_[rank].gone) listener.on_gone(rank, peers_[rank].why);
  }
  listeners_[channel] = &listener;
}

void Hub::leave(std::uint32_t channel) {
  const std::lock_guard lock(mutex_);
  listeners_.erase(channel);
}

std::uint32_t Hub::propose() {
  const std::lock_guard lock(mutex_);
  return reserved_.empty() ? 0 : *reserved_.rbegin() + 1;
}

// From here on frames for it are kept until its communicator enters.
bool Hub::reserve(std::uint32_t channel) {
  const std::lock_guard lock(mutex_);
  if (!reserved_.insert(channel).second) return false;
  early_[channel];
  return true;
}

void Hub::give_back(std::uint32_t channel) {
  const std::lock_guard lock(mutex_);
  reserved_.erase(channel);
}

std::string Hub::state_of(int rank) const {
  const std::lock_guard lock(mutex_);
  if (peers_[rank].gone) return "its process is gone";
  const auto silence = Clock::now() - peers_[rank].heard;
  if (silence < kSilence) return "its process is running";
  return fmt::format("nothing has been heard of it for {} s: stopped, or out of reach",
                     std::chrono::duration_cast<std::chrono::seconds>(silence).count());
}

int Hub::most_silent(std::span<const int> ranks) const {
  const std::lock_guard lock(mutex_);
  auto heard = Clock::now() - kSilence;
  int silent = -1;
  for (const int rank : ranks) {
    if (rank == transport_->rank() || peers_[rank].gone || peers_[rank].heard > heard) continue;
    heard = peers_[rank].heard;
    silent = rank;
  }
  return silent;
}

}  // namespace trireme::message
