// The suites of communicators on MPI: this process is one of the ranks that mpirun has started.
#include <cstdlib>

#include "tests/comm/engine.h"
#include "trireme/comm/message/group.h"
#include "trireme/comm/mpi/mpi.h"

namespace trireme::test {
namespace {

Engine mpi_engine() {
  const char* const ranks = std::getenv("TRIREME_TEST_RANKS");
  return {.name = "Mpi",
          .rank_counts = {ranks == nullptr ? 1 : std::atoi(ranks)},
          .run = [](int, const RankFunction& body) { body(*message::Group::world(mpi::world())); }};
}

// Before main(), which test_mpi_main has.
const bool kIsSet = [] {
  static Engine engine = mpi_engine();
  engine_of_program() = &engine;
  return true;
}();

}  // namespace
}  // namespace trireme::test
