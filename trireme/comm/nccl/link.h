#pragma once

#include <nccl.h>

#include <chrono>
#include <functional>
#include <string>

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
  /// Collective: all `size` ranks with the same `id`. Throws CommError at the deadline, and what
  /// `watch` throws.
  Link(const ncclUniqueId& id, int rank, int size, const Watch& watch, Deadline deadline);

  /// close() with work under way.
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  ncclComm_t get() const { return comm_; }

  /// Queues what `calls` asks NCCL for as one piece of work: sends and receives in it go on at
  /// once.
  template <class Calls>
  void group_call(const Watch& watch, Deadline deadline, Calls calls) {
    check(ncclGroupStart(), "ncclGroupStart");
    try {
      calls();
    } catch (...) {
      (void)ncclGroupEnd();
      throw;
    }
    settle(ncclGroupEnd(), "ncclGroupEnd", watch, deadline);
  }

  /// Throws CommError if NCCL has failed behind the scenes.
  void check_progress() const;

  /// Ends it; what is under way is given up, unless the link `is_idle`. If NCCL does not let go
  /// within seconds, since a peer on this host has not, a thread goes on waiting for that.
  void close(bool is_idle);

  /// Throws CommError with NCCL's own text unless `code` is a success or on its way to be one.
  static void check(ncclResult_t code, const char* call);

 private:
  void settle(ncclResult_t code, const char* call, const Watch& watch, Deadline deadline) const;

  int device_ = 0;
  ncclComm_t comm_ = nullptr;
};

}  // namespace trireme::nccl
