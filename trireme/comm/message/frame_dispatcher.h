#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "trireme/base/clock.h"
#include "trireme/comm/message/transport.h"

namespace trireme::message {

/// What a communicator receives from the FrameDispatcher, on its thread. Ranks are the transport's.
/// Must not call the dispatcher.
class FrameListener {
 public:
  virtual ~FrameListener() = default;
  virtual void on_frame(int from, const Frame& frame) = 0;
  /// `rank` is lost because of `why`, or has left in good order if `why` is empty. Called once for
  /// a rank, after all its frames.
  virtual void on_departure(int rank, const std::string& why) = 0;
  /// Called every 50 ms. `last_heard[r]` is when the last frame of rank r came.
  virtual void on_tick(Clock::Time now, std::span<const Clock::Time> last_heard) = 0;
};

/// One thread that receives the frames of a transport, passes each to the communicator that it is
/// for, and sends heartbeats. Shared by all communicators of a transport. Thread-safe.
class FrameDispatcher {
 public:
  /// `clock` must outlive the dispatcher. A rank of which nothing has been heard for
  /// `heartbeat_timeout` is lost (0: never); a time in which this process was stopped itself does
  /// not count.
  FrameDispatcher(std::unique_ptr<Transport> transport, const Clock& clock,
                  std::chrono::milliseconds heartbeat_timeout);
  /// Tells the peers that it shuts down and waits until all have acknowledged it, so that no frame
  /// is lost with the connection; at most half a second.
  ~FrameDispatcher();

  Transport& transport() { return *transport_; }
  const Clock& clock() const { return clock_; }

  /// Passes the frames of `channel` to `listener`, first those that have already arrived.
  void enter(std::uint32_t channel, FrameListener& listener);
  /// Once this function has returned, the listener is not called any more.
  void leave(std::uint32_t channel);

  /// Returns a channel that is free on this rank. The ranks of a new communicator propose one each
  /// and use one that all of them can reserve.
  std::uint32_t propose();
  bool reserve(std::uint32_t channel);
  void give_back(std::uint32_t channel);

 private:
  struct Peer {
    bool shuts_down = false;
    bool has_acknowledged = false;  // that this rank shuts down
    bool is_gone = false;
    std::string why;
  };

  void receive_frames();
  void receive(const Arrival& arrival);
  void deliver(int from, const Frame& frame);
  void mark_gone(int rank, const std::string& why);
  void tick(Clock::Time now);
  void find_silent(Clock::Time now);
  void send_to_all(FrameKind kind);

  std::unique_ptr<Transport> transport_;
  const Clock& clock_;
  std::chrono::milliseconds heartbeat_timeout_;
  std::mutex mutex_;  // held while a listener is called
  std::condition_variable changed_;
  std::vector<Peer> peers_;
  std::vector<Clock::Time> last_heard_;
  std::map<std::uint32_t, FrameListener*> listeners_;
  std::map<std::uint32_t, std::vector<std::pair<int, Frame>>>
      early_;                         // for channels without a listener yet
  std::set<std::uint32_t> reserved_;  // past channels too: their late frames are dropped
  Clock::Time last_tick_;
  Clock::Time next_heartbeat_;
  bool is_closing_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace trireme::message
