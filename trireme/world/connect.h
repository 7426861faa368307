#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/launch/environment.h"

namespace trireme {

struct ConnectOptions {
  /// "auto", or "shm", "mpi" or "gloo" to insist on one.
  std::string backend = "auto";
  /// How long a rank waits for a peer that is alive before its call ends in CommError.
  std::chrono::milliseconds timeout = std::chrono::minutes(30);
  /// Sum in one order on any backend and any number of hosts. Without it MPI, Gloo and NCCL sum in
  /// orders of their own where they have a collective for the call.
  bool reproducible = true;
  /// The address by which the ranks of other hosts reach this one; empty: found out.
  std::string interface_address;
};

/// The communicator of all ranks, found through the environment of whoever started this process
/// (environment.h), so that one program runs by itself, under `trireme run`, mpirun, srun, torchrun
/// and Kubernetes:
///
///     auto world = trireme::connect();
///     world->all_reduce(gradients).wait();
///
/// - started by nobody: a world of one;
/// - `trireme run` on one host: the shared memory that it made;
/// - mpirun, or srun with PMI or PMIx, in a build with MPI: MPI;
/// - otherwise a meeting point (MASTER_ADDR and MASTER_PORT, or Slurm's first host): Gloo over TCP.
///
/// MPI and Gloo carry what goes between hosts; ranks of one host share memory. In a build with NCCL
/// the communicator takes Buffers on CUDA devices too, however the ranks were started
/// (comm/nccl/nccl.h), once what libtorch has queued on this thread's stream is done. Collective,
/// once a process. Throws UsageError if the environment makes no sense, names ranks that nothing in
/// this build can join, or if ranks do not fit together; CommError if a rank does not come.
std::unique_ptr<Communicator> connect(const ConnectOptions& options = {});

/// The same for an environment already read.
std::unique_ptr<Communicator> connect(const RankEnvironment& environment,
                                      const ConnectOptions& options = {});

/// For a communicator that connect() has not made: from now on it takes Buffers on CUDA devices, in
/// a build with NCCL, as those of connect() do. All ranks or none.
void carry_devices(Communicator& world, const ConnectOptions& options = {});

/// What this build can connect by: "self", "shm", "mpi (Open MPI 4.1.4)", "gloo", "nccl (NCCL
/// 2.28.9)" between devices.
std::vector<std::string> available_backends();

/// What connect() would use: "self", "shm", "mpi" or "gloo". Throws as connect() does.
std::string backend_for(const RankEnvironment& environment, const ConnectOptions& options = {});

}  // namespace trireme
