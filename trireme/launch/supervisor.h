#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "trireme/launch/exit_status.h"

namespace trireme {

/// How a launch ended.
struct Verdict {
  int exit_code = 0;                    ///< for the launching program to exit with
  int rank_at_fault = -1;               ///< or -1: all went well, or somebody asked us to stop
  ExitStatus status;                    ///< of the rank at fault
  std::string explanation;              ///< of that status, or "interrupted by SIGINT"
  int interrupted_by = 0;               ///< the first signal that asked us to stop, or 0
  std::vector<ExitStatus> ranks;        ///< how each rank ended
  std::vector<int> outlived;            ///< killed, or in need of one that was, and done without
  std::vector<std::string> last_lines;  ///< of stderr of the rank at fault
  std::string log;                      ///< path of its log file, or empty

  bool ok() const { return exit_code == 0; }
};

/// Decides what happens to the ranks of one host: a state machine that makes no system call. Events
/// go in, each returns the actions to carry out, in order. Once finished() is true there is a
/// verdict().
///
/// A rank that exits 0 is fine. One that fails starts the end of all: the others have `grace` to
/// see their CommError and go, then get SIGTERM, then, `kill_after` later, SIGKILL. The first
/// failure that is neither a victim's (ExitCode::kPeerLost) nor our own doing is at fault; a victim
/// is blamed only where there is nobody else.
///
/// A first request to stop is passed on to the ranks as it came, and they may take their time to
/// save. A second one sends SIGTERM and, `kill_after` later, SIGKILL; a third SIGKILL at once.
class Supervisor {
 public:
  using Time = std::chrono::nanoseconds;  ///< of any clock that only goes forward

  struct Options {
    Time grace = std::chrono::milliseconds(500);
    Time kill_after = std::chrono::milliseconds(500);
    /// Ranks do not need each other, but for rank 0 and some that end with each other: that one is
    /// killed by a signal is no end, and no failure if the rest ends well.
    bool others_go_on = false;
  };

  struct SendSignal {
    int rank;
    int signal;
    bool operator==(const SendSignal&) const = default;
  };
  /// Tells the other ranks' communicators that `rank` has gone.
  struct MarkLost {
    int rank;
    std::string why;
    bool operator==(const MarkLost&) const = default;
  };
  /// Tells them that `rank` has ended in good order: those that do not need it go on.
  struct MarkEnded {
    int rank;
    bool operator==(const MarkEnded&) const = default;
  };
  /// Call time_passed() at `when`; replaces an earlier timer.
  struct ArmTimer {
    Time when;
    bool operator==(const ArmTimer&) const = default;
  };
  using Action = std::variant<SendSignal, MarkLost, MarkEnded, ArmTimer>;
  using Actions = std::vector<Action>;

  /// All `ranks` (at least 1) are running.
  Supervisor(int ranks, Options options);
  explicit Supervisor(int ranks) : Supervisor(ranks, Options{}) {}

  Actions exited(int rank, ExitStatus status, Time now);

  /// SIGINT, SIGTERM or SIGUSR1 reached the launcher.
  Actions interrupted(int signal, Time now);

  /// Earlier than asked for does nothing.
  Actions time_passed(Time now);

  bool finished() const { return running_ == 0; }

  /// Requires finished(). Without last_lines and log, which a state machine does not see.
  Verdict verdict() const;

 private:
  enum class Phase { kRunning, kGrace, kTerminating, kKilling };

  struct Rank {
    std::optional<ExitStatus> status;
    bool asked_to_stop = false;  // got the polite signal
    bool ended_by_us = false;    // got SIGTERM or SIGKILL because the end had come
  };

  Actions enter_grace(Time now);
  Actions terminate(Time now);
  Actions kill_all();
  Actions signal_running(int signal);
  bool is_our_doing(const Rank& rank, ExitStatus status) const;

  Options options_;
  std::vector<Rank> ranks_;
  int running_;
  Phase phase_ = Phase::kRunning;
  Time deadline_{};
  int interrupted_by_ = 0;
  std::vector<int> outlived_;
  int cause_ = -1;   // first failure that is its own
  int victim_ = -1;  // first that failed for a lost peer
};

}  // namespace trireme
