#pragma once

#include <memory>

#include "trireme/comm/message/transport.h"
#include "trireme/comm/mpi/engine.h"
#include "trireme/comm/operation.h"

namespace trireme::mpi {

/// The collectives of MPI, over all ranks and in MPI's order of summation.
class Native {
 public:
  /// Collective; throws CommError when the meeting is over.
  Native(Engine& engine, int rank, int size, RollCall& roll_call);
  ~Native();

  /// Returns false if MPI has no such collective. The result depends on the call alone, so it is
  /// the same on all ranks. Throws CommError at the deadline and then abandons MPI, because a
  /// collective cannot be canceled.
  bool carry_out(const Operation& operation, message::Deadline deadline);

 private:
  struct Communicator;

  Engine& engine_;
  int rank_;
  int size_;
  std::unique_ptr<Communicator> communicator_;
};

}  // namespace trireme::mpi
