#include <gtest/gtest.h>

#include "trireme/base/error.h"
#include "trireme/comm/mpi/mpi.h"

namespace trireme::test {
namespace {

TEST(NoMpi, IsSaidWithTheWayToGetIt) {
  EXPECT_EQ(mpi::library(), "");
  try {
    mpi::world();
    FAIL() << "nothing was thrown";
  } catch (const UsageError& error) {
    EXPECT_EQ(std::string(error.what()),
              "mpi: this trireme was built without MPI: apt-get install openmpi-bin libopenmpi-dev "
              "(or mpich libmpich-dev), then in trireme's sources cmake --preset release "
              "-DTRIREME_MPI=ON && make build");
  }
}

}  // namespace
}  // namespace trireme::test
