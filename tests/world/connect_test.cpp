#include "trireme/world/connect.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/comm/shm/world.h"

namespace trireme {
namespace {

std::string error_of(const RankEnvironment& environment) {
  try {
    connect(environment);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Connect, WithoutALauncherIsAWorldOfOne) {
  const auto world = connect(RankEnvironment{});
  EXPECT_EQ(world->rank(), 0);
  EXPECT_EQ(world->size(), 1);
  double value = 3;
  world->all_reduce({&value, 1, DType::kF64}).wait();
  EXPECT_EQ(value, 3);
}

TEST(Connect, JoinsTheSharedWorldThatTheLauncherHandedDown) {
  constexpr int kRanks = 3;
  const shm::World launcher = shm::World::create(kRanks);
  std::vector<std::int64_t> sums(kRanks);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < kRanks; ++rank) {
    ranks.emplace_back([&, rank] {
      RankEnvironment environment;
      environment.rank = rank;
      environment.world_size = kRanks;
      environment.world_fd = dup(launcher.fd());
      // The communicator outlives the World through which it was joined.
      const auto world = connect(environment);
      sums[rank] = rank + 1;
      world->all_reduce({&sums[rank], 1, DType::kI64}).wait();
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_THAT(sums, testing::Each(6));
}

// What a call of rank 0 throws that waits in vain for rank 1.
std::string error_of_waiting(const ConnectOptions& options,
                             std::optional<std::chrono::milliseconds> of_launcher) {
  const shm::World launcher = shm::World::create(2);
  RankEnvironment environment;
  environment.world_size = 2;
  environment.timeout = of_launcher;
  environment.world_fd = dup(launcher.fd());
  const auto world = connect(environment, options);
  try {
    world->barrier();
  } catch (const CommError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Connect, TheTimeoutHoldsInSharedMemory) {
  using namespace std::chrono_literals;
  EXPECT_THAT(error_of_waiting({.timeout = 300ms}, std::nullopt), testing::HasSubstr("0.3 s"));
  EXPECT_THAT(error_of_waiting({}, 200ms), testing::HasSubstr("0.2 s"));
  EXPECT_THAT(error_of_waiting({.timeout = 100ms}, 1h), testing::HasSubstr("0.1 s"));
  EXPECT_THROW(error_of_waiting({.timeout = 0ms}, 1h), UsageError);
}

TEST(Connect, SaysOnceThatSeveralHostsMeetWithoutASecret) {
  RankEnvironment environment;
  environment.world_size = 4;
  environment.local_world_size = 2;
  environment.meeting = {.address = "node1", .port = 4000};
  EXPECT_THAT(warning_for(environment), testing::HasSubstr("meet at node1:4000 without a secret"));
  RankEnvironment other = environment;
  other.rank = 1;
  EXPECT_EQ(warning_for(other), "");
  other = environment;
  other.secret = JobSecret::random();
  EXPECT_EQ(warning_for(other), "");
  other = environment;
  other.local_world_size = 4;
  EXPECT_EQ(warning_for(other), "");
}

TEST(Connect, RefusesASharedWorldOfAnotherSize) {
  const shm::World launcher = shm::World::create(2);
  RankEnvironment environment;
  environment.world_size = 3;
  environment.world_fd = dup(launcher.fd());
  EXPECT_THAT(error_of(environment),
              testing::HasSubstr("WORLD_SIZE must be 2, the ranks of the shared world, got 3"));
}

TEST(Connect, SaysHowRanksOfAnotherLauncherAreJoined) {
  RankEnvironment environment;
  environment.rank = 1;
  environment.world_size = 4;
  environment.variables = "SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID";
  const std::string error = error_of(environment);
  EXPECT_THAT(error, testing::HasSubstr("SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID"));
  EXPECT_THAT(error, testing::HasSubstr("rank 1 of 4"));
  EXPECT_THAT(error, testing::HasSubstr("trireme run -n 4 program"));
}

}  // namespace
}  // namespace trireme
