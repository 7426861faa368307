#include "trireme/world/c10d/frame_lane.h"

#include <cstring>

namespace trireme::c10d {

namespace {

// Frames have a group of their own, so that no chunk delays them.
constexpr int kFrameTag = 0;

// Gloo sends a message only after the receiver has posted its receive. These receives are posted in
// advance, so that a frame needs no round trip.
constexpr std::size_t kPostedFrames = 8;

}  // namespace

FrameLane::FrameLane(c10::intrusive_ptr<GlooGroup> group, int peer, Deliver deliver)
    : group_(std::move(group)), peer_(peer), deliver_(std::move(deliver)) {}

void FrameLane::send(const message::Frame& frame) {
  // Both sides of Gloo must name the same size, so a whole frame is always sent.
  auto copy = std::make_unique<message::Frame>();
  std::memcpy(static_cast<void*>(copy.get()), &frame, frame.bytes());
  const std::lock_guard lock(mutex_);
  if (is_lost_ || is_stopped_) return;
  try {
    const WithoutSigpipe without_sigpipe;
    GlooWork work = group_->begin_send(copy.get(), sizeof(message::Frame), peer_, kFrameTag);
    sent_.push_back({std::move(copy), std::move(work)});
  } catch (const std::exception&) {
    // receive() reports the loss after the frames that the peer had sent.
    is_lost_ = true;
  }
  changed_.notify_all();
}

void FrameLane::drain(message::Deadline deadline) {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline, [&] { return sent_.empty() || is_lost_ || is_stopped_; });
}

void FrameLane::stop() {
  const std::lock_guard lock(mutex_);
  is_stopped_ = true;
  if (receiving_) receiving_->abort();
  if (sending_) sending_->abort();
  changed_.notify_all();
}

void FrameLane::receive() {
  for (std::size_t i = 0; i < kPostedFrames; ++i) post(std::make_unique<message::Frame>());
  while (!posted_.empty()) {
    try {
      if (!wait_for(posted_.front().work, receiving_)) return;
    } catch (const std::exception& error) {
      failure_ = short_reason(error);
      break;
    }
    std::unique_ptr<message::Frame> frame = std::move(posted_.front().frame);
    posted_.pop_front();
    deliver_({peer_, {}, *frame});
    post(std::move(frame));
  }
  give_up();
  deliver_({peer_, failure_, {}});
}

void FrameLane::release() {
  for (;;) {
    GlooWork work;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return !sent_.empty() || is_lost_ || is_stopped_; });
      if (sent_.empty() || is_lost_ || is_stopped_) return;
      work = sent_.front().work;
    }
    try {
      if (!wait_for(work, sending_)) return;
    } catch (const std::exception&) {
      give_up();
      return;
    }
    const std::lock_guard lock(mutex_);
    sent_.pop_front();
    changed_.notify_all();
  }
}

void FrameLane::post(std::unique_ptr<message::Frame> frame) {
  // Frames that arrived before the connection broke are still delivered.
  if (!failure_.empty()) return;
  try {
    const WithoutSigpipe without_sigpipe;
    GlooWork work = group_->begin_recv(frame.get(), sizeof(message::Frame), peer_, kFrameTag);
    posted_.push_back({std::move(frame), std::move(work)});
  } catch (const std::exception& error) {
    failure_ = short_reason(error);
  }
}

bool FrameLane::wait_for(const GlooWork& work, GlooWork& current) {
  {
    const std::lock_guard lock(mutex_);
    if (is_stopped_) return false;
    current = work;
  }
  const bool is_done = work->wait(kForever);
  const std::lock_guard lock(mutex_);
  current.reset();
  return is_done;
}

void FrameLane::give_up() {
  const std::lock_guard lock(mutex_);
  is_lost_ = true;
  changed_.notify_all();
}

}  // namespace trireme::c10d
