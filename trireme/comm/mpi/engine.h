#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "trireme/comm/backoff.h"

namespace trireme::mpi {

/// MPI as this process has it. MPI itself is one a process, to be initialised and finalised once,
/// so this is too. All calls into MPI are made with lock() held, and none of them blocks: a library
/// that only serves one thread at a time is enough.
class Engine {
 public:
  /// Initialises MPI if nobody has. Throws UsageError if MPI cannot serve several threads or has
  /// been finalised.
  static Engine& running();

  std::unique_lock<std::mutex> lock() { return std::unique_lock(mutex_); }

  /// Calls `done` with lock() held until it is true.
  template <class Done>
  void await(Done done);

  /// What follows is called with lock() held.

  /// From now on the other ranks may not come to the end of the program: they are not waited for
  /// without bound.
  void mark_failed() { has_failed_ = true; }

  /// MPI may still use memory that is about to be somebody else's: it is never called again.
  void abandon(std::string why);
  /// Why MPI must not be called; empty as long as it may.
  const std::string& why_abandoned() const { return why_abandoned_; }
  void require_usable() const;

  /// Called when all ranks have come to the end of the program, before MPI is finalised.
  void at_end(std::function<void()> call) { at_end_.push_back(std::move(call)); }

  /// Memory that MPI may use until the process ends.
  void keep(std::shared_ptr<void> memory) { kept_.push_back(std::move(memory)); }

 private:
  Engine();
  void require_level() const;
  void finish();

  // Finalises MPI when the program ends.
  struct AtExit {
    Engine& engine;
    ~AtExit() { engine.finish(); }
  };

  std::mutex mutex_;
  int level_ = 0;
  pid_t process_ = 0;  // that has initialised MPI here; forked children have not
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
void Engine::await(Done done) {
  const Backoff backoff;
  for (;;) {
    {
      const auto locked = lock();
      require_usable();
      if (done()) return;
    }
    backoff.pause();
  }
}

}  // namespace trireme::mpi
