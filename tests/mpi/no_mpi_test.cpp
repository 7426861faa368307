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
              "mpi: this trireme was built without MPI; install Open MPI or MPICH and configure it "
              "with -DTRIREME_MPI=ON");
  }
}

}  // namespace
}  // namespace trireme::test
