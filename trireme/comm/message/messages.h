#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "trireme/comm/message/exchange.h"
#include "trireme/comm/message/ticket.h"

namespace trireme::message {

/// The sends and receives of one communicator. A send announces itself by a frame; what it carries
/// follows, unless it fits into the frame. Whatever arrives before its recv is kept aside. For each
/// peer one thread sends and one receives, from the first large message on.
///
/// All but the constructor and stop() are called with the communicator's mutex held.
class Messages {
 public:
  /// Wakes those who wait for tickets: `changed`. `fail`: called, without the mutex, with the error
  /// of a transfer with a peer.
  struct Context {
    std::mutex& mutex;
    std::condition_variable& changed;
    std::function<Exchange(const Operation&)> exchange;
    std::function<void(const Operation&, std::exception_ptr)> fail;
    std::function<void(int to, const Frame&)> say;
    int rank;
    int size;
  };

  explicit Messages(Context context);
  ~Messages();

  std::shared_ptr<Ticket> send(const Operation& operation);
  std::shared_ptr<Ticket> recv(const Operation& operation);
  void on_message(int from, const Frame& frame);

  /// Fails everything that is not under way; what is ends with its transfer.
  void end(const std::exception_ptr& error);

  /// An operation that waits for `peer`, or null.
  const Operation* waiting_for(int peer) const;

  /// Ends the threads. Without the mutex; after end().
  void stop();

 private:
  struct Receipt {
    Operation operation;
    std::shared_ptr<Ticket> ticket;
  };
  struct Message {
    Call sent;
    std::vector<char> kept;  // its bytes, unless they go straight to a recv
    std::shared_ptr<Receipt> receipt;
    bool arrived = false;
    bool arriving = false;
  };
  struct Peer {
    std::deque<Receipt> outgoing;  // large ones; the first one is under way
    std::list<std::shared_ptr<Receipt>> wanted;
    std::list<Message> messages;  // in the order of their sending
    std::thread sender;
    std::thread receiver;
  };

  void run_sender(int to);
  void run_receiver(int from);
  void receive(int from, std::list<Message>::iterator message, std::unique_lock<std::mutex>& lock);
  void settle(int from, std::list<Message>::iterator message);
  static bool fits(const Message& message);

  Context context_;
  std::vector<Peer> peers_;
  std::exception_ptr error_;
  bool stopping_ = false;
};

}  // namespace trireme::message
