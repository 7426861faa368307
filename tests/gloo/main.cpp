// The suites of communicators on Gloo: each test forks its ranks, which rendezvous at a port of
// their own.
#include <gtest/gtest.h>

#include "tests/comm/engine.h"
#include "tests/comm/loopback.h"
#include "tests/world/rank_processes.h"
#include "trireme/comm/message/group.h"
#include "trireme/world/c10d/gloo.h"

namespace trireme::test {
namespace {

void run_over_gloo(int ranks, const RankFunction& body) {
  const int port = free_port();
  RankProcesses processes(ranks, [&](int rank) {
    c10d::Rendezvous rendezvous;
    rendezvous.rank = rank;
    rendezvous.world_size = ranks;
    rendezvous.master_port = port;
    body(*message::Group::world(c10d::gloo(rendezvous)));
  });
  processes.expect_all_well();
}

}  // namespace
}  // namespace trireme::test

int main(int argc, char** argv) {
  trireme::test::Engine gloo{.name = "Gloo",
                             .rank_counts = {1, 2, 3, 4},
                             .run = trireme::test::run_over_gloo,
                             .forks = true};
  trireme::test::engine_of_program() = &gloo;
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
