#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "trireme/comm/message/transport.h"

namespace trireme::mpi {

/// Returns the MPI that trireme was built with: "Open MPI 4.1.4", "MPICH 4.0.2"; empty without MPI.
std::string library();

/// Returns the commands that give trireme MPI; empty if it was built with MPI.
std::string how_to_get();
/// How the ranks of a world come together.
struct Meeting {
  /// In which all ranks must have called world().
  std::chrono::milliseconds timeout = std::chrono::minutes(30);
  /// Identifies the job on a host, so that errors can name the ranks of this host that have not
  /// come. Empty: they are not named.
  std::string job;
  // What the launcher has said of this rank:
  int rank = 0;
  int size = 1;
  int ranks_of_host = 0;  ///< 0: it is not known
};

/// Returns a transport over all ranks that mpirun has started, or over one rank without mpirun.
/// Collective. A program may have several, one after another or at the same time.
///
/// If the program has not initialized MPI, this function does so in a thread that also finalizes it
/// at exit, once all ranks have reached it. A program that initializes MPI itself must ask for
/// MPI_THREAD_SERIALIZED or MPI_THREAD_MULTIPLE; with the former it must not call MPI while a
/// transport is in use. Throws UsageError if the level is lower, if MPI has been finalized, if the
/// greetings of ranks differ, or if trireme was built without MPI; CommError if a rank does not
/// call it within the timeout, which also holds while MPI_Init waits for that rank. MPI is then
/// of no use to this process any more.
///
/// mpirun kills every rank when one dies; an MPI that reports a lost peer instead makes the
/// transport report it. After a failure a rank waits at exit a few seconds for the others and then
/// ends without MPI_Finalize; mpirun reports that and ends the job. A rank never hangs at exit. If
/// a transfer is abandoned while its peer is stopped, MPI may still write to its memory; to keep
/// that safe MPI is not called any more, and every peer counts as lost.
std::unique_ptr<message::Transport> world(const Meeting& meeting = {});

}  // namespace trireme::mpi
