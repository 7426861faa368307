#pragma once

#include <memory>

#include "trireme/comm/message/transport.h"
#include "trireme/comm/mpi/engine.h"
#include "trireme/comm/operation.h"

namespace trireme::mpi {

/// MPI's own collectives, over all ranks and in MPI's order of summation.
class Native {
 public:
  /// Collective.
  Native(Engine& engine, int rank, int size);
  ~Native();

  /// False if MPI has no such collective, which is read off the call alone, the same on all ranks.
  /// Throws CommError at the deadline; MPI is then abandoned, for a collective cannot be called
  /// back.
  bool carry_out(const Operation& operation, message::Deadline deadline);

 private:
  struct Communicator;

  Engine& engine_;
  int rank_;
  int size_;
  std::unique_ptr<Communicator> communicator_;
};

}  // namespace trireme::mpi
