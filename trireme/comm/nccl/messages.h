#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "trireme/comm/nccl/handshake.h"
#include "trireme/comm/nccl/line.h"

namespace trireme::nccl {

/// The sends and recvs of one device lane. NCCL matches them by order, trireme by tag; so the
/// communicator of the processes announces each send and matches it, and the receiver answers each
/// in the order in which it has found them matched. Both ends queue in the order of the answers, on
/// a line for each direction of each pair. The first answer also carries NCCL's id.
///
/// Each call with the rank's device current.
class Messages {
 public:
  /// Has the communicator carry a note between lanes.
  using Carry = std::function<Work(const Operation&)>;

  Messages(int rank, int size, Carry carry, std::chrono::milliseconds timeout);

  /// `matched`: the communicator's part of the call.
  std::shared_ptr<Transfer> start(const Operation& operation, Work matched, int device);

  /// A recv in the memory of the process was refused, since message `number` of `sender` comes from
  /// a device.
  void refuse(int sender, std::uint64_t number);

  /// Moves all on as far as possible without blocking. Throws what ends the communicator.
  void advance();

  /// Is there nothing that only advance() can move on?
  bool is_settled() const;
  /// Is there nothing under way?
  bool is_idle() const;

  /// No recv or send to itself can come for it any more: throws UsageError if this rank is alone.
  void require_hope(const Transfer& transfer);

  /// Ends the lines: what NCCL has under way is given up, unless they are idle.
  void close(bool is_idle);
  /// The streams that anything was queued on.
  std::vector<cudaStream_t> streams() const;
  /// Forgets all transfers.
  void clear();

 private:
  using TransferRef = std::shared_ptr<Transfer>;

  /// What a receiver tells the sender of one of its messages.
  struct Answer {
    std::uint64_t number = 0;
    bool is_taken = false;
    Handshake receiver;
  };
  struct Note {
    Answer answer;
    Work work;  // last: it uses the answer
  };
  struct Peer {
    std::uint64_t sends = 0;
    std::list<TransferRef> announced;           // sends without an answer
    std::unique_ptr<Note> expected;             // the next answer; there if any send waits for one
    std::list<TransferRef> wanted;              // recvs that nothing has come for
    std::deque<std::unique_ptr<Note>> answers;  // on their way
    Line outgoing{Line::End::kSender};
    Line incoming{Line::End::kReceiver};
  };

  Peer& peer(int rank) { return peers_[static_cast<std::size_t>(rank)]; }
  void match(int from);
  bool try_to_match(int from, Transfer& transfer);
  void take(int from, const TransferRef& transfer);
  void take_own(const TransferRef& transfer);
  void answer(int sender, std::uint64_t number, bool is_taken);
  void read_answers(int to);
  void on_answer(int to, const Answer& answer);
  void put(Line& line, const TransferRef& transfer);
  std::unique_ptr<Note> note(OpKind kind, int other, const Answer& answer);
  TransferRef extract(Peer& receiver, std::uint64_t number);

  int rank_;
  Carry carry_;
  std::chrono::milliseconds timeout_;
  int device_ = -1;
  std::vector<Peer> peers_;
};

}  // namespace trireme::nccl
