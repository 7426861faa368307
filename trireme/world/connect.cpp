#include "trireme/world/connect.h"

#include <fmt/format.h>

#include "trireme/base/error.h"
#include "trireme/comm/self/self.h"
#include "trireme/comm/shm/world.h"

namespace trireme {

std::unique_ptr<Communicator> connect() {
  return connect(read_environment());
}

std::unique_ptr<Communicator> connect(const RankEnvironment& environment) {
  if (environment.world_fd) {
    shm::World world = shm::World::open(*environment.world_fd);
    if (world.size() != environment.world_size) {
      throw UsageError(fmt::format(
          "connect: WORLD_SIZE must be {}, the ranks of the shared world, got {}; leave the "
          "variables as the launcher sets them",
          world.size(), environment.world_size));
    }
    return world.join(environment.rank);
  }
  if (environment.world_size == 1) return self_communicator();
  throw UsageError(fmt::format(
      "connect: {} say that this is rank {} of {}, started by another launcher. Its ranks are "
      "joined by the MPI and c10d backends, which this build does not have; on one host start them "
      "with: trireme run -n {} program",
      environment.variables, environment.rank, environment.world_size, environment.world_size));
}

}  // namespace trireme
