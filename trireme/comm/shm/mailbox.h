#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <list>
#include <memory>
#include <vector>

#include "trireme/comm/operation.h"
#include "trireme/comm/shm/peers.h"

namespace trireme::shm {

/// One send or recv in progress; shared by the mailbox and the Work.
struct Transfer {
  explicit Transfer(const Operation& the_operation) : operation(the_operation) {}

  Operation operation;
  bool done = false;
  std::exception_ptr error;  ///< of this message; it does not end the communicator
};

/// The messages between one rank and its peers. Each ordered pair of ranks has a ring of bytes,
/// through which messages stream one after another; a message that arrives before its recv is
/// stored. Sends and recvs of different peers and directions advance independently.
class Mailbox {
 public:
  explicit Mailbox(Peers& peers);

  std::shared_ptr<Transfer> send(const Operation& operation);
  std::shared_ptr<Transfer> recv(const Operation& operation);

  /// Moves bytes as far as possible; returns true if any have moved.
  bool advance();

  bool idle() const { return active_ == 0; }
  /// Returns the ranks that transfers in progress wait for.
  std::vector<int> awaited() const;
  /// Returns a message to or from `peer` that is not done, or null.
  const Operation* awaiting(int peer) const;
  /// Throws CommError naming the peer and the message. Requires !idle().
  [[noreturn]] void time_out() const;

 private:
  /// Messages and headers begin at multiples of its size, so that a header never wraps around the
  /// ring.
  struct alignas(16) Header {
    std::int64_t count = 0;
    std::int32_t tag = 0;
    DType dtype = DType::kF32;
    DeviceKind device = DeviceKind::kCpu;
    bool is_note = false;

    static Header of(const Call& call);
    Call call() const;
  };
  static_assert(sizeof(Header) == 16);
  /// A message that is arriving or has arrived.
  struct Message {
    Call sent;
    std::uint64_t number = 0;            ///< among those from devices
    std::vector<char> kept;              ///< its bytes, unless they are copied directly to a recv
    std::shared_ptr<Transfer> transfer;  ///< the recv that it is for, once there is one
    std::size_t arrived = 0;             ///< padding included
  };
  struct Outbox {
    std::deque<std::shared_ptr<Transfer>> queue;
    std::size_t sent = 0;  ///< bytes of the first transfer, header and padding included
  };
  struct Inbox {
    std::list<std::shared_ptr<Transfer>> wanted;  ///< recvs without a message, in order
    std::list<Message> messages;                  ///< in order of arrival
    bool arriving = false;                        ///< the last message is incomplete
    int open = 0;                                 ///< recvs in progress
    std::uint64_t from_devices = 0;               ///< messages that have come
  };

  bool push(int to);
  bool pull(int from);
  void begin_message(Inbox& inbox, const Call& sent);
  void settle(int from, std::list<Message>::iterator message);
  static std::size_t padded(std::size_t bytes);

  Peers* peers_;
  std::vector<Outbox> outboxes_;
  std::vector<Inbox> inboxes_;
  int active_ = 0;
};

}  // namespace trireme::shm
