#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "trireme/launch/exit_status.h"

namespace trireme {

/// How a launch ended.
struct ExitReport {
  int exit_code = 0;     ///< for the launching program to exit with
  int failed_rank = -1;  ///< the cause, of this host; -1 if all went well or the ranks were stopped
  ExitStatus status;     ///< of the failed rank
  std::string explanation;        ///< of that status, or "interrupted by SIGINT", or "stopped"
  int interrupted_by = 0;         ///< the first signal that asked to stop, or 0
  std::vector<ExitStatus> ranks;  ///< how each rank of this host ended
  int first_rank = 0;             ///< of this host, in the world
  int world_size = 0;             ///< ranks on all hosts
  std::vector<int> tolerated_failures;  ///< ranks that failed while the others completed the work
  std::vector<std::string> last_lines;  ///< of the failed rank's stderr
  std::string log;                      ///< path of its log file, or empty

  bool ok() const { return exit_code == 0; }
};

/// Decides what happens to the ranks of one host. A state machine that makes no system call: events
/// and the time go in, each event returns the actions to execute, in order. Once finished() is
/// true, exit_report() may be called.
///
/// A rank that exits with 0 has succeeded. A rank that fails ends all: the others have `grace` to
/// notice their CommError and exit, then they get SIGTERM and, `kill_after` later, SIGKILL. The
/// failed rank of the report is the first one whose failure the supervisor did not cause and that
/// was not a victim (ExitCode::kPeerLost); it is a victim only if no other rank has failed.
///
/// The first request to stop is passed on to the ranks as the same signal, and they may take any
/// time to save. The second sends SIGTERM and, `kill_after` later, SIGKILL; the third SIGKILL. A
/// signal other than SIGINT and SIGQUIT that comes twice within `repetition` is one request: a
/// terminal that is closed sends SIGHUP by itself and through its shell, timeout(1) sends its
/// signal to the process and to its group.
///
/// A rank that exits with 128 + such a signal without a request that was seen here has been asked
/// by another host, or itself. It has not failed, and the others stop as well.
class Supervisor {
 public:
  using Time = std::chrono::nanoseconds;  ///< of any clock that only goes forward

  struct Options {
    Time grace = std::chrono::milliseconds(500);
    Time kill_after = std::chrono::milliseconds(500);
    Time repetition = std::chrono::milliseconds(200);
    /// Ranks other than 0 are not needed by the rest: if one is killed by a signal, the launch goes
    /// on, and has not failed if the others succeed. So it is for its victims.
    bool tolerates_lost_ranks = false;
  };

  struct SendSignal {
    int rank;
    int signal;
    bool operator==(const SendSignal&) const = default;
  };
  /// Mark `rank` as lost, for the communicators of the other ranks.
  struct MarkLost {
    int rank;
    std::string why;
    bool operator==(const MarkLost&) const = default;
  };
  /// Mark `rank` as ended in good order: ranks that do not need it go on.
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

  /// SIGINT, SIGTERM, SIGHUP, SIGQUIT or SIGUSR1 reached the launcher.
  Actions interrupted(int signal, Time now);

  /// Does nothing before the time of the last ArmTimer.
  Actions time_passed(Time now);

  bool finished() const { return running_ == 0; }

  /// Requires finished(). Leaves last_lines and log empty: the supervisor does not see output.
  ExitReport exit_report() const;

 private:
  enum class Phase { kRunning, kGrace, kTerminating, kKilling };

  struct Rank {
    std::optional<ExitStatus> status;
    bool asked_to_stop = false;  // got the first request to stop
    bool ended_by_us = false;    // got SIGTERM or SIGKILL from the supervisor
  };

  Actions enter_grace(Time now);
  Actions terminate(Time now);
  Actions kill_all();
  Actions signal_running(int signal);
  bool is_caused_by_us(const Rank& rank, ExitStatus status) const;
  bool is_repetition(int signal, Time now) const;

  Options options_;
  std::vector<Rank> ranks_;
  int running_;
  Phase phase_ = Phase::kRunning;
  Time deadline_{};
  int interrupted_by_ = 0;
  Time interrupted_at_{};
  int stopped_with_ = 0;  // the exit code of the first rank that has stopped, however it was asked
  std::vector<int> tolerated_failures_;
  int cause_ = -1;   // the first rank that failed by itself
  int victim_ = -1;  // the first rank that failed because of a lost peer
};

}  // namespace trireme
