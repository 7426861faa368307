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
struct Chunk {
  int peer = 0;
  void* data = nullptr;  ///< only read in a send
  std::size_t bytes = 0;
};

/// Chunks in flight. Their memory belongs to the transfer until wait() has returned. Destroying a
/// transfer that has not been waited for abandons it.
class Transfer {
 public:
  virtual ~Transfer() = default;

  /// Blocks until every chunk has been received or sent. Throws CommError naming the peer if the
  /// peer is lost or the deadline passes, and some CommError after abort().
  virtual void wait(Deadline deadline) = 0;

  /// A wait() that is blocked ends in CommError within 100 ms; a later one does at once. May be
  /// called from another thread.
  virtual void abort() = 0;
};

/// A frame that has been received, or the loss of a peer.
struct Arrival {
  int from = 0;
  std::string lost;  ///< why the peer is lost, or empty
  Frame frame;       ///< valid if `lost` is empty
};

/// What a library such as MPI or Gloo must do to connect the ranks of a Communicator: move frames
/// and chunks between size() ranks, reliably. Group composes everything else of it.
///
/// A chunk that is sent is matched with a chunk that its receiver expects, by tag and, within a
/// tag, in order; both must have the same size. Thread-safe, except that only one thread may call
/// next_frame().
class Transport {
 public:
  virtual ~Transport() = default;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// "mpi", "gloo": for logs and errors.
  virtual std::string name() const = 0;

  /// Queues a frame to another rank and returns at once. A frame to a rank that is gone is dropped.
  /// Frames between two ranks arrive in order.
  virtual void send_frame(int to, const Frame& frame) = 0;

  /// Waits until a frame has arrived or a peer is lost, at most for `timeout`. The loss of a peer
  /// is reported once, after the frames that it had sent.
  virtual std::optional<Arrival> next_frame(std::chrono::milliseconds timeout) = 0;

  /// Begins to move chunks to and from other ranks, in both directions at once. 0 <= tag < tags().
  virtual std::unique_ptr<Transfer> begin(int tag, std::span<const Chunk> sends,
                                          std::span<const Chunk> recvs) = 0;
  virtual int tags() const = 0;

  /// Executes a collective by one of the library's own, which sums in its own order, and returns
  /// true; or returns false if it has none for this call. All ranks must make the same call, from
  /// one thread at a time.
  virtual bool run_native(const Operation& operation, Deadline deadline) {
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

/// What ranks compare when they connect: the release, the layout of frames and the size of the
/// world. Ranks with equal greetings can work together.
std::string greeting(int world_size);

/// Throws UsageError, with both greetings, if those of `rank` and of this rank differ.
void require_same_greeting(const std::string& own, int rank, const std::string& theirs);

}  // namespace trireme::message
