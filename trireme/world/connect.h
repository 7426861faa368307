#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/launch/environment.h"

namespace trireme {

struct ConnectOptions {
  /// "auto", or "shm", "mpi" or "gloo" to require one of them.
  std::string backend = "auto";
  /// How long a rank waits for a peer that is alive before its call ends in CommError, on every
  /// backend; for the ranks to meet in connect(), 5 minutes at most. If it is not given: that of
  /// the launcher (`trireme run --timeout`), else 30 minutes.
  std::optional<std::chrono::milliseconds> timeout;
  /// A rank of another host of which nothing is heard for so long is lost, whatever `timeout` is: a
  /// cut link, a host that is gone, a process that is stopped. Computing does not count, since
  /// heartbeats come from a thread. At least 3 seconds, or 0: never.
  std::chrono::milliseconds heartbeat_timeout = std::chrono::seconds(30);
  /// Sum in one order on any backend and any number of hosts. Without it MPI, Gloo and NCCL sum in
  /// orders of their own where they have a collective for the call.
  bool reproducible = true;
  /// The address by which ranks of other hosts reach this one; empty: chosen automatically.
  std::string interface_address;
  /// Gets what a user should know while connect() waits, a sentence each: which ranks have not
  /// come, who was refused because of another job secret. First after 5 seconds, then rarely.
  std::function<void(const std::string&)> on_notice;
};

/// Returns the communicator of all ranks, which it finds through the environment of this process
/// (environment.h), so that one program runs by itself and under `trireme run`, mpirun, srun,
/// torchrun and Kubernetes:
///
///     auto world = trireme::connect();
///     world->all_reduce(gradients).wait();
///
/// - without a launcher: a world of one;
/// - `trireme run` on one host: the shared memory of the launcher;
/// - mpirun, or srun with PMI or PMIx, in a build with MPI: MPI;
/// - otherwise a rendezvous (MASTER_ADDR and MASTER_PORT, or Slurm's first host): Gloo over TCP.
///
/// MPI and Gloo move data between hosts; ranks of one host share memory. In a build with NCCL the
/// communicator also takes Buffers on CUDA devices (comm/nccl/nccl.h); an operation on them begins
/// after the work that libtorch has queued on this thread's stream. Collective; call it once in a
/// process. Throws UsageError if the environment is contradictory, if this build cannot connect its
/// ranks, or if ranks differ in version or number of ranks; CommError if a rank is missing at the
/// timeout.
std::unique_ptr<Communicator> connect(const ConnectOptions& options = {});

/// The same for an environment that has been read already.
std::unique_ptr<Communicator> connect(const RankEnvironment& environment,
                                      const ConnectOptions& options = {});

/// Returns what a user should know of how connect() will find the other ranks: that several hosts
/// meet without a secret (docs/security.md), or that a program in the shell of a Slurm job is a
/// world of one since srun has not started it. Empty: nothing. `trireme run` says it itself. Throws
/// as backend_for() does.
std::string warning_for(const RankEnvironment& environment, const ConnectOptions& options = {});

/// Makes a communicator that was not made by connect() take Buffers on CUDA devices in a build with
/// NCCL, as those of connect() do. All ranks must call it, or none.
void carry_devices(Communicator& world, const ConnectOptions& options = {});

/// Returns the backends of this build: "self", "shm", "mpi (Open MPI 4.1.4)", "gloo", and "nccl
/// (NCCL 2.28.9)" between devices.
std::vector<std::string> available_backends();

/// Returns the backend that connect() would use: "self", "shm", "mpi" or "gloo". Throws as
/// connect() does.
std::string backend_for(const RankEnvironment& environment, const ConnectOptions& options = {});

}  // namespace trireme
