#pragma once

#include <deque>
#include <exception>
#include <future>
#include <memory>
#include <optional>

#include "trireme/comm/nccl/link.h"
#include "trireme/comm/operation.h"
#include "trireme/comm/work.h"

namespace trireme::nccl {

/// One send or recv of a buffer on this rank's device.
struct Transfer {
  Operation operation;
  Work matched;              // of a send: it is announced; of a recv: its send has been found
  cuda::Event ready;         // what the caller had queued before
  std::uint64_t number = 0;  // of a send: among those to its receiver
  Deadline deadline = Deadline::max();  // from when on both ranks have called it
  bool is_queued = false;
  bool is_done = false;
  std::exception_ptr error;  // of this message alone
  cuda::Event done;

  void finish(std::exception_ptr why = nullptr) {
    error = std::move(why);
    is_done = true;
  }
};

/// The messages of one direction between two ranks: a stream and an NCCL communicator of the two,
/// with nothing else in them, so that only the order of these messages must be the same at both
/// ends. Never waits for the other end. Each call with the rank's device current.
class Line {
 public:
  enum class End { kSender, kReceiver };

  explicit Line(End end) : end_(end) {}

  /// Begins to meet the other end.
  void connect(const ncclUniqueId& id);
  bool is_connected() const { return link_.has_value(); }

  /// The next message, in the order that both ends have agreed on.
  void add(std::shared_ptr<Transfer> transfer);
  /// A message of this rank to itself.
  void copy(const std::shared_ptr<Transfer>& from, const std::shared_ptr<Transfer>& to);

  /// Queues what can be queued, and notes what the device has done. Throws CommError if NCCL fails.
  void advance();

  bool is_idle() const { return waiting_.empty() && queued_.empty(); }
  /// Is there something that only advance() can move on?
  bool has_waiting() const { return !waiting_.empty(); }

  std::future<void> begin_close(bool is_idle);
  /// The stream, if anything was queued on it.
  cudaStream_t stream() const { return stream_ ? stream_->get() : nullptr; }

 private:
  void queue(const Transfer& transfer);
  void note_queued();

  End end_;
  std::optional<cuda::Stream> stream_;
  std::optional<Link> link_;
  std::deque<std::shared_ptr<Transfer>> waiting_;  // if is_asked_, NCCL is taking up the first
  std::deque<std::shared_ptr<Transfer>> queued_;
  bool is_asked_ = false;
};

}  // namespace trireme::nccl
