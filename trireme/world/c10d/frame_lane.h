#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "trireme/comm/message/transport.h"
#include "trireme/world/c10d/process_group.h"

namespace trireme::c10d {

/// Frames to and from one peer. Two threads run it: receive() and release().
class FrameLane {
 public:
  /// Called with each frame, and once with the loss of the peer.
  using Deliver = std::function<void(message::Arrival)>;

  FrameLane(c10::intrusive_ptr<GlooGroup> group, int peer, Deliver deliver);

  /// May be called from any thread; returns at once.
  void send(const message::Frame& frame);

  /// Returns once all frames have been sent, the peer is lost, or at the deadline.
  void drain(message::Deadline deadline);

  /// Makes receive() and release() return.
  void stop();

  /// Delivers frames until the peer is lost or stop().
  void receive();

  /// Frees the memory of sent frames until the peer is lost or stop().
  void release();

 private:
  struct Message {
    std::unique_ptr<message::Frame> frame;
    GlooWork work;
  };

  void post(std::unique_ptr<message::Frame> frame);
  bool wait_for(const GlooWork& work, GlooWork& current);
  void give_up();

  const c10::intrusive_ptr<GlooGroup> group_;
  const int peer_;
  const Deliver deliver_;

  std::deque<Message> posted_;  // of receive() alone
  std::string failure_;         // of receive() alone: no more can be posted, and why

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Message> sent_;
  GlooWork receiving_;  // what receive() and release() are blocked in
  GlooWork sending_;
  bool is_lost_ = false;
  bool is_stopped_ = false;
};

}  // namespace trireme::c10d
