#include "trireme/base/error.h"
#include "trireme/comm/mpi/mpi.h"

namespace trireme::mpi {

std::string library() {
  return "";
}

std::string how_to_get() {
  return "apt-get install openmpi-bin libopenmpi-dev (or mpich libmpich-dev), then in trireme's "
         "sources cmake --preset release -DTRIREME_MPI=ON && make build";
}

std::unique_ptr<message::Transport> world(const Meeting&) {
  throw UsageError("mpi: this trireme was built without MPI: " + how_to_get());
}

}  // namespace trireme::mpi
