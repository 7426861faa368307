#pragma once

#include <memory>
#include <string>

#include "trireme/comm/message/transport.h"

namespace trireme::mpi {

/// The MPI that trireme was built with: "Open MPI 4.1.4", "MPICH 4.0.2"; empty if with none.
std::string library();

/// The transport over all ranks that mpirun has started; one rank if there was no mpirun.
/// Collective. A program may ask for several, one after another or at once.
///
/// MPI is initialised if the program has not done so, and then finalised at its exit, once all
/// ranks have come there. One that has must have asked for MPI_THREAD_SERIALIZED or
/// MPI_THREAD_MULTIPLE, and with the former must not call MPI while a transport is in use. Throws
/// UsageError if the level is lower, if MPI is already finalised, if ranks do not fit together, or
/// if trireme was built without MPI.
///
/// mpirun kills every rank when one dies; where MPI reports the loss of a peer instead, so does the
/// transport. After a failure a rank waits a few seconds at its exit for the others, and goes
/// without MPI_Finalize if they do not come: mpirun then says so and ends the job. It never hangs.
/// A transfer that is given up half way while its peer is stopped leaves memory in the hands of
/// MPI: to keep that memory safe MPI is not called any more, and every peer counts as lost.
std::unique_ptr<message::Transport> world();

}  // namespace trireme::mpi
