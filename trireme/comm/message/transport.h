#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "trireme/comm/message/frame.h"

namespace trireme::message {

using Deadline = std::chrono::steady_clock::time_point;

/// Bytes that go to `peer` or come from it.
struct Piece {
  int peer = 0;
  void* data = nullptr;  ///< only read where it is sent
  std::size_t bytes = 0;
};

/// Pieces under way. Their memory belongs to the transfer until wait() has returned; destroying a
/// transfer that has not been waited for gives it up.
class Transfer {
 public:
  virtual ~Transfer() = default;

  /// Blocks until every piece has come or gone. Throws CommError naming the peer if that one is
  /// lost or the deadline passes, or any CommError after abort().
  virtual void wait(Deadline deadline) = 0;

  /// From another thread: wait(), under way or yet to come, ends in CommError within 100 ms.
  virtual void abort() = 0;
};

/// A frame that has come, or the end of whoever sent them.
struct Arrival {
  int from = 0;
  std::string lost;  ///< not empty: the peer is gone for good, and why
  Frame frame;       ///< otherwise
};

/// What an engine (MPI, Gloo, ...) must be able to do to carry a Communicator: move frames and
/// pieces between size() ranks, reliably. Everything else is composed above it, in Group.
///
/// Pieces that one rank sends to another are matched with those that it receives by tag and, within
/// a tag, in order; both must have the same size. Thread-safe, but for next_frame(), which one
/// thread calls.
class Transport {
 public:
  virtual ~Transport() = default;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// "mpi", "gloo": for logs and errors.
  virtual std::string name() const = 0;

  /// Queues a frame to another rank and returns at once; to one that is gone it is dropped. Frames
  /// between two ranks arrive in order.
  virtual void send_frame(int to, const Frame& frame) = 0;

  /// Waits until a frame has come or a peer is lost, for `patience` at most. The loss of a peer is
  /// reported once, after the frames that it had sent.
  virtual std::optional<Arrival> next_frame(std::chrono::milliseconds patience) = 0;

  /// Begins to move pieces to and from other ranks, in both directions at once. 0 <= tag < tags().
  virtual std::unique_ptr<Transfer> begin(int tag, std::span<const Piece> sends,
                                          std::span<const Piece> recvs) = 0;
  virtual int tags() const = 0;

  /// Carries a collective out by one of the engine's own, in that one's order of summation. False
  /// if it has none for this call. All ranks call it alike, from one thread at a time.
  virtual bool carry_out_natively(const Operation& operation, Deadline deadline) {
    (void)operation;
    (void)deadline;
    return false;
  }

 protected:
  Transport(int rank, int size) : rank_(rank), size_(size) {}

 private:
  int rank_;
  int size_;
};

/// What ranks compare before they talk: the release, the layout of frames and the size of the
/// world. Equal texts fit together.
std::string greeting(int world_size);

/// Throws UsageError if the greetings of `rank` and of this rank differ, saying in what.
void require_same_greeting(const std::string& own, int rank, const std::string& theirs);

}  // namespace trireme::message
