#pragma once

#include <nccl.h>

#include <chrono>
#include <functional>
#include <future>
#include <string>
#include <vector>

#include "trireme/comm/nccl/cuda.h"

namespace trireme::nccl {

using Deadline = std::chrono::steady_clock::time_point;

/// How long to wait for pending work when a communicator is aborted.
constexpr std::chrono::seconds kShutdownTimeout{5};

/// Called repeatedly while NCCL is waited for. Throws once the wait cannot succeed.
using Watch = std::function<void()>;

/// NCCL's communicator of one rank, on the device that is current: every call returns at once or
/// is waited for with a deadline, and no peer's end can hold this rank up for ever. For one thread
/// at a time.
class Link {
 public:
  /// Begins to meet the others: all `size` ranks with the same `id`. Nothing may be asked of the
  /// link before is_settled().
  Link(const ncclUniqueId& id, int rank, int size);

  /// close() with work under way.
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  ncclComm_t get() const { return comm_; }

  /// Has NCCL taken up what it was asked last? Throws CommError if it failed.
  bool is_settled();
  /// Waits for that. Throws CommError at the deadline, and what `watch` throws.
  void settle(const Watch& watch, Deadline deadline);

  /// Asks NCCL to queue what `calls` names as one piece of work: sends and receives in it go on at
  /// once.
  template <class Calls>
  void begin_group(Calls calls) {
    check(ncclGroupStart(), "ncclGroupStart");
    try {
      calls();
    } catch (...) {
      (void)ncclGroupEnd();
      throw;
    }
    note(ncclGroupEnd(), "ncclGroupEnd");
  }

  template <class Calls>
  void group_call(const Watch& watch, Deadline deadline, Calls calls) {
    begin_group(calls);
    settle(watch, deadline);
  }

  /// Throws CommError if NCCL has failed behind the scenes.
  void check_progress() const;

  /// Ends it; what is under way is given up, unless the link `is_idle`. If NCCL does not let go
  /// within seconds, since a peer on this host has not, a thread goes on waiting for that.
  void close(bool is_idle);

  /// The same without waiting; then wait_for_end() of all that were closed.
  std::future<void> begin_close(bool is_idle);
  static void wait_for_end(const std::vector<std::future<void>>& closings);

  /// Throws CommError with NCCL's own text unless `code` is a success or on its way to be one.
  static void check(ncclResult_t code, const char* call);

 private:
  void note(ncclResult_t code, const char* call);

  int device_ = 0;
  ncclComm_t comm_ = nullptr;
  const char* asked_ = nullptr;  // the call that NCCL has not taken up yet
};

}  // namespace trireme::nccl
