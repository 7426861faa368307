#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "trireme/base/file_descriptor.h"
#include "trireme/comm/mpi/mpi.h"

namespace trireme::mpi {

/// Which ranks of this host have come to a meeting, known without MPI, whose calls only return once
/// all have: each binds a name of its own, an abstract address that the system removes with the
/// process. One thread.
class RollCall {
 public:
  /// This rank has come.
  explicit RollCall(const Meeting& meeting);

  /// Notes who has come by now; call it while waiting.
  void look();

  /// True once the meeting's timeout has passed.
  bool is_over() const { return Clock::now() >= deadline_; }

  /// "connect: MPI_Init was not done within 10.0 s: rank 2 of 3 has not come; ...".
  std::string who_is_missing(const std::string& call);

 private:
  using Clock = std::chrono::steady_clock;

  bool knows_names() const { return !meeting_.job.empty(); }
  std::string missing() const;

  Meeting meeting_;
  Clock::time_point deadline_;
  Clock::time_point next_look_{};
  FileDescriptor own_;
  std::vector<bool> has_come_;  // by rank
};

}  // namespace trireme::mpi
