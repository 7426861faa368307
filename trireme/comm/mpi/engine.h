#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "trireme/comm/backoff.h"
#include "trireme/comm/mpi/roll_call.h"

namespace trireme::mpi {

/// The MPI of this process. A process initializes and finalizes MPI once, so there is one Engine.
/// All calls of MPI are made with lock() held and none of them blocks, so a library that serves one
/// thread at a time is enough.
class Engine {
 public:
  /// Initializes MPI unless the program has done so. Throws UsageError if MPI cannot serve several
  /// threads or has been finalized, CommError if MPI_Init still waits for other ranks when the
  /// meeting is over.
  static Engine& running(RollCall& roll_call);

  std::unique_lock<std::mutex> lock() { return std::unique_lock(mutex_); }

  /// Calls `done`, which advances the collective `call`, with lock() held until it is true. If it
  /// is not when the meeting is over, keeps `memory`, abandons MPI and throws CommError.
  template <class Done>
  void await(Done done, const char* call, RollCall& roll_call, std::shared_ptr<void> memory);

  /// The functions below are called with lock() held.

  /// Records that other ranks may never reach the end of the program: at exit this rank waits for
  /// them for a few seconds only.
  void mark_failed() { has_failed_ = true; }

  /// Ends the use of MPI, because it may still write to memory that will be freed: no later call
  /// reaches it.
  void abandon(std::string why);
  /// Returns why MPI must not be called, or an empty text if it may.
  const std::string& why_abandoned() const { return why_abandoned_; }
  void require_usable() const;

  /// `call` runs when all ranks have reached the end of the program, before MPI is finalized.
  void at_end(std::function<void()> call) { at_end_.push_back(std::move(call)); }

  /// Keeps memory that MPI may use until the process ends.
  void keep(std::shared_ptr<void> memory) { kept_.push_back(std::move(memory)); }

 private:
  Engine();
  void run_mpi();
  void await_init(RollCall& roll_call);
  void require_level() const;
  void finish();

  // Finalizes MPI when the program ends.
  struct AtExit {
    Engine& engine;
    ~AtExit() { engine.finish(); }
  };

  // The thread that calls MPI_Init and, as MPI asks, MPI_Finalize as well: MPI_Init cannot be given
  // a timeout, so a caller must be able to leave it.
  enum class Life { kStarting, kRunning, kEnding };
  Life life_ = Life::kRunning;
  std::condition_variable lives_;
  std::thread thread_;

  std::mutex mutex_;
  int level_ = 0;
  pid_t process_ = 0;  // the process that initialized MPI, which a forked child is not
  bool has_failed_ = false;
  std::string why_abandoned_;
  std::vector<std::function<void()>> at_end_;
  std::vector<std::shared_ptr<void>> kept_;
};

/// Throws CommError with MPI's own text unless `code`, of the MPI function `call`, is a success.
void check(int code, const char* call);
/// "MPI_Isend: MPI_ERR_PROC_FAILED: Process Failure".
std::string text_of(int code, const char* call);

template <class Done>
void Engine::await(Done done, const char* call, RollCall& roll_call, std::shared_ptr<void> memory) {
  const Backoff backoff;
  for (;;) {
    {
      const auto locked = lock();
      require_usable();
      if (done()) return;
      if (roll_call.is_over()) {
        mark_failed();
        keep(std::move(memory));
        abandon(roll_call.who_is_missing(call));
        require_usable();
      }
    }
    roll_call.look();
    backoff.pause();
  }
}

}  // namespace trireme::mpi
