#include "trireme/base/error.h"
#include "trireme/comm/mpi/mpi.h"

namespace trireme::mpi {

std::string library() {
  return "";
}

std::unique_ptr<message::Transport> world(const Meeting&) {
  throw UsageError(
      "mpi: this trireme was built without MPI; install Open MPI or MPICH and configure it with "
      "-DTRIREME_MPI=ON");
}

}  // namespace trireme::mpi
