#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "trireme/comm/message/channel.h"
#include "trireme/comm/message/completion.h"

namespace trireme::message {

/// The sends and receives of one communicator. A send announces itself by a frame; its data follows
/// unless it fits into the frame. A message that arrives before its recv is stored. For each peer
/// one thread sends and one receives, from the first large message on.
///
/// A transfer that fails is reported; its message then stays incomplete until end(). Thread-safe.
class Messages {
 public:
  /// Called from a thread of this object, without its locks.
  using ReportFailure =
      std::function<void(const Operation&, const std::exception_ptr& error, bool timed_out)>;

  /// `channel` must outlive this object.
  Messages(Channel& channel, ReportFailure report_failure);
  /// Calls stop().
  ~Messages();

  std::shared_ptr<Completion> send(const Operation& operation);
  std::shared_ptr<Completion> recv(const Operation& operation);

  /// A frame of kind kMessage has arrived.
  void on_message(int from, const Frame& frame);

  /// Ends every incomplete message and every later call with `error`. The caller must abort
  /// transfers that are in flight; their messages fail when the transfers have ended.
  void end(const std::exception_ptr& error);

  /// Ends the threads. Must be called after end().
  void stop();

 private:
  struct Request {
    Operation operation;
    std::shared_ptr<Completion> completion = std::make_shared<Completion>();
  };
  struct Message {
    Call sent;
    std::uint64_t number = 0;  // among those from devices
    std::vector<char> kept;    // its bytes, unless they go directly to a recv
    std::shared_ptr<Request> request;
    bool has_arrived = false;
    bool is_arriving = false;
  };
  using MessageIterator = std::list<Message>::iterator;
  struct Peer {
    std::condition_variable changed;  // for its two threads
    std::deque<Request> outgoing;     // large sends; the first one is in flight
    std::list<std::shared_ptr<Request>> wanted;
    std::list<Message> messages;  // in the order of their sending
    std::uint64_t from_devices = 0;
    std::thread sender;
    std::thread receiver;
  };

  Peer& peer(int rank) { return peers_[static_cast<std::size_t>(rank)]; }
  void send_to_self(const Operation& operation);
  void announced(int from, const Call& call);
  void arrived(int from, MessageIterator message);
  void run_sender(int to);
  void run_receiver(int from);
  void receive(int from, MessageIterator message, std::unique_lock<std::mutex>& lock);
  bool move(const Operation& operation, std::vector<Chunk> sends, std::vector<Chunk> receives);
  void hand_over(int from, MessageIterator message);

  Channel& channel_;
  ReportFailure report_failure_;
  std::mutex mutex_;
  std::vector<Peer> peers_;
  std::exception_ptr error_;
  bool is_stopping_ = false;
};

}  // namespace trireme::message
