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

#include "trireme/comm/message/transport.h"

namespace trireme::message {

/// What a communicator hears from the Hub, on the Hub's thread. Ranks are the transport's.
class Listener {
 public:
  virtual ~Listener() = default;
  virtual void on_frame(int from, const Frame& frame) = 0;
  /// `rank` has gone: lost for `why`, or of its own accord if that is empty. Once a rank, after all
  /// its frames.
  virtual void on_gone(int rank, const std::string& why) = 0;
};

/// This rank's ear: one thread that takes the frames of a transport, hands them to the
/// communicators that they are for, and tells peers now and then that this process is running.
/// Shared by all communicators of one transport and gone with the last of them. Thread-safe.
class Hub {
 public:
  explicit Hub(std::unique_ptr<Transport> transport);
  /// Says goodbye, and waits until every peer has heard it, half a second at most.
  ~Hub();

  Transport& transport() { return *transport_; }

  /// `listener` gets the frames of `channel`, those that came before included.
  void enter(std::uint32_t channel, Listener& listener);
  /// None comes any more once this returns.
  void leave(std::uint32_t channel);

  /// A channel that is free on this rank, to be proposed to the ranks of a new communicator; one
  /// that they all can reserve is the new communicator's.
  std::uint32_t propose();
  bool reserve(std::uint32_t channel);
  void give_back(std::uint32_t channel);

  /// "its process is running", or since when nothing was heard of it.
  std::string state_of(int rank) const;

  /// Who of `ranks` has not been heard of for longest, if state_of() says so; -1 for nobody.
  int most_silent(std::span<const int> ranks) const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Peer {
    Clock::time_point heard;
    bool said_goodbye = false;
    bool heard_goodbye = false;  // it has heard ours
    bool gone = false;
    std::string why;
  };

  void listen();
  void take(const Arrival& arrival);
  void deliver(int from, const Frame& frame);
  void end_of(int rank, const std::string& why);
  void say_to_all(const Frame& frame);

  std::unique_ptr<Transport> transport_;
  mutable std::mutex mutex_;  // held while a listener is called
  std::condition_variable changed_;
  std::vector<Peer> peers_;
  std::map<std::uint32_t, Listener*> listeners_;
  std::map<std::uint32_t, std::vector<std::pair<int, Frame>>> early_;  // for channels to come
  std::set<std::uint32_t> reserved_;  // those of the past too: their late frames are dropped
  bool closing_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace trireme::message
