#include "trireme/comm/mpi/engine.h"

#include <fmt/format.h>
#include <mpi.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <string_view>

#include "trireme/base/error.h"
#include "trireme/comm/mpi/mpi.h"

namespace trireme::mpi {

namespace {

// How long to wait for the other ranks at exit after a failure: enough for all of them to notice it
// on a busy machine.
constexpr std::chrono::seconds kExitTimeout{5};

constexpr const char* kWithoutMpi =
    "or go without MPI: communication.backend = \"gloo\", in C++ connect({.backend = \"gloo\"}), "
    "with "
    "MASTER_ADDR and MASTER_PORT set to rank 0's host and a free port there";

std::string_view name_of_level(int level) {
  switch (level) {
    case MPI_THREAD_SINGLE:
      return "MPI_THREAD_SINGLE";
    case MPI_THREAD_FUNNELED:
      return "MPI_THREAD_FUNNELED";
    case MPI_THREAD_SERIALIZED:
      return "MPI_THREAD_SERIALIZED";
    default:
      return "MPI_THREAD_MULTIPLE";
  }
}

bool is_initialized() {
  int flag = 0;
  MPI_Initialized(&flag);
  return flag != 0;
}

bool is_finalized() {
  int flag = 0;
  MPI_Finalized(&flag);
  return flag != 0;
}

}  // namespace

Engine& Engine::running(RollCall& roll_call) {
  // The engine is never destroyed, because a transport may outlive main() and needs the lock.
  static Engine& engine = *new Engine;
  static const AtExit at_exit{engine};
  engine.await_init(roll_call);
  engine.require_level();
  return engine;
}

Engine::Engine() {
  if (is_finalized()) return;
  if (is_initialized()) {
    MPI_Query_thread(&level_);
  } else {
    process_ = getpid();
    life_ = Life::kStarting;
    thread_ = std::thread([this] { run_mpi(); });
  }
}

void Engine::run_mpi() {
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
  int level = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level);
  std::unique_lock locked(mutex_);
  level_ = level;
  life_ = Life::kRunning;
  lives_.notify_all();
  lives_.wait(locked, [&] { return life_ == Life::kEnding; });
  MPI_Finalize();
}

void Engine::await_init(RollCall& roll_call) {
  constexpr std::chrono::milliseconds kBetweenLooks{50};
  std::unique_lock locked(mutex_);
  while (!lives_.wait_for(locked, kBetweenLooks, [&] { return life_ != Life::kStarting; })) {
    roll_call.look();
    if (roll_call.is_over()) throw CommError(roll_call.who_is_missing("MPI_Init"));
  }
}

void Engine::require_level() const {
  if (is_finalized()) {
    throw UsageError(
        "mpi: this program has already finalized MPI, which cannot begin again; call MPI_Finalize "
        "after the last communicator is gone, or leave it to trireme");
  }
  if (level_ >= MPI_THREAD_SERIALIZED) return;
  if (process_ != 0) {
    throw UsageError(fmt::format(
        "mpi: {} gives no more than {}, wanted MPI_THREAD_SERIALIZED or MPI_THREAD_MULTIPLE; use "
        "an MPI that was built with threads, {}",
        library(), name_of_level(level_), kWithoutMpi));
  }
  throw UsageError(fmt::format(
      "mpi: this program has initialized MPI with {}, wanted MPI_THREAD_SERIALIZED or "
      "MPI_THREAD_MULTIPLE; ask MPI_Init_thread for one of them, leave it to trireme, {}",
      name_of_level(level_), kWithoutMpi));
}

void Engine::require_usable() const {
  if (!why_abandoned_.empty()) throw CommError(why_abandoned_);
}

void Engine::abandon(std::string why) {
  if (why_abandoned_.empty()) why_abandoned_ = std::move(why);
}

// MPI_Finalize waits for every rank; some MPIs do so forever and without yielding. So a barrier
// comes first.
void Engine::finish() {
  auto locked = lock();
  if (life_ != Life::kRunning || process_ != getpid() || !why_abandoned_.empty() || is_finalized())
    return;
  abandon("mpi: the program is at its end");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Request barrier = MPI_REQUEST_NULL;
  if (MPI_Ibarrier(MPI_COMM_WORLD, &barrier) != MPI_SUCCESS) return;
  const auto begin = std::chrono::steady_clock::now();
  const Backoff backoff;
  for (;;) {
    int done = 0;
    if (MPI_Test(&barrier, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return;
    if (done) break;
    if (has_failed_ && std::chrono::steady_clock::now() - begin > kExitTimeout) return;
    backoff.pause();
  }
  for (const auto& call : at_end_) call();
  life_ = Life::kEnding;
  lives_.notify_all();
  locked.unlock();
  thread_.join();
}

std::string text_of(int code, const char* call) {
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  return fmt::format("{}: {}", call, std::string_view(text.data(), length));
}

void check(int code, const char* call) {
  if (code != MPI_SUCCESS) throw CommError("mpi: " + text_of(code, call));
}

// "Open MPI v4.1.4, package: ..." or "MPICH Version:\t4.0.2\nMPICH Release date: ...".
std::string library() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);
  std::string name(text.data(), length);
  name.erase(std::min(name.find_first_of(",\n"), name.size()));
  if (const auto at = name.find(" Version:\t"); at != name.npos) name.replace(at, 10, " ");
  if (const auto at = name.find(" v"); at != name.npos) name.erase(at + 1, 1);
  return name;
}

std::string how_to_get() {
  return "";
}

}  // namespace trireme::mpi
