// One program connects its ranks under every launcher and sums to the same bits.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/comm/loopback.h"
#include "tests/world/child.h"
#include "tests/world/world_program.h"
#include "trireme/base/file_descriptor.h"
#include "trireme/comm/mpi/mpi.h"

namespace trireme::test {
namespace {

using testing::HasSubstr;

using VariablesOfRank = std::function<Variables(int rank)>;

std::vector<Outcome> run_ranks(int ranks, const Command& arguments,
                               const VariablesOfRank& variables) {
  std::vector<Child> children;
  for (int rank = 0; rank < ranks; ++rank) {
    children.emplace_back(world_program(arguments), variables(rank));
  }
  std::vector<Outcome> outcomes;
  for (Child& child : children) outcomes.push_back(child.wait());
  return outcomes;
}

VariablesOfRank torchrun(int ranks) {
  const int port = free_port();
  return [=](int rank) {
    Variables variables = torchrun_variables(rank, ranks, "127.0.0.1", port);
    variables["LOCAL_RANK"] = std::to_string(rank);
    variables["LOCAL_WORLD_SIZE"] = std::to_string(ranks);
    return variables;
  };
}

// One to which a free port belongs.
std::string number_of_a_job() {
  constexpr int kLeastPort = 20000;
  static int tried = getpid();
  for (int attempt = 0; attempt < 100; ++attempt) {
    const int job = ++tried % 12000;
    if (listening_on(kLeastPort + job).is_open()) return std::to_string(job);
  }
  throw std::runtime_error("no job has a free port");
}

VariablesOfRank srun(int ranks) {
  const std::string job = number_of_a_job();
  return [=](int rank) {
    return Variables{{"SLURM_PROCID", std::to_string(rank)},
                     {"SLURM_NTASKS", std::to_string(ranks)},
                     {"SLURM_LOCALID", std::to_string(rank)},
                     {"SLURM_STEP_NODELIST", "localhost"},
                     {"SLURM_JOB_ID", job}};
  };
}

std::string line_of(int rank, int ranks) {
  return fmt::format("rank {} of {}: {}; {}\n", rank, ranks,
                     ranks == 1 ? "one rank" : "shared memory", expected_sums(ranks));
}

// One process has started all ranks.
void expect_all_ranks_well(const Outcome& outcome, int ranks) {
  EXPECT_EQ(outcome.exit_code, 0);
  for (int rank = 0; rank < ranks; ++rank) {
    EXPECT_THAT(outcome.out, HasSubstr(line_of(rank, ranks)));
  }
}

void expect_each_rank_well(const std::vector<Outcome>& outcomes) {
  const auto ranks = static_cast<int>(outcomes.size());
  for (int rank = 0; rank < ranks; ++rank) {
    EXPECT_EQ(outcomes[rank].exit_code, 0);
    EXPECT_EQ(outcomes[rank].out, line_of(rank, ranks));
  }
}

class Started : public testing::TestWithParam<int> {};

INSTANTIATE_TEST_SUITE_P(Ranks, Started, testing::Values(1, 3));

TEST(StartedByHand, AProgramIsAWorldOfOne) {
  const Outcome outcome = run_child(world_program({"sum"}));
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.out, fmt::format("rank 0 of 1: one rank; {}\n", expected_sums(1)));
}

TEST_P(Started, ByTriremeRun) {
  const Outcome outcome = run_child(by_trireme_run(GetParam(), world_program({"sum"})));
  EXPECT_EQ(outcome.exit_code, 0);
  for (int rank = 0; rank < GetParam(); ++rank) {
    EXPECT_THAT(outcome.out, HasSubstr(fmt::format("rank {} of {}: shared memory; {}\n", rank,
                                                   GetParam(), expected_sums(GetParam()))));
  }
}

TEST_P(Started, WithTorchrunsVariables) {
  expect_each_rank_well(run_ranks(GetParam(), {"sum"}, torchrun(GetParam())));
}

TEST_P(Started, WithSrunsVariables) {
  expect_each_rank_well(run_ranks(GetParam(), {"sum"}, srun(GetParam())));
}

TEST_P(Started, ByMpirun) {
  if (mpi::library().empty()) {
    const Outcome outcome = run_child(
        world_program({"sum"}),
        {{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", std::to_string(GetParam() + 1)}});
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.out, HasSubstr("this trireme was built without MPI"));
    EXPECT_THAT(outcome.out, HasSubstr("apt-get install openmpi-bin libopenmpi-dev"));
    EXPECT_THAT(outcome.out, HasSubstr("cmake --preset release -DTRIREME_MPI=ON"));
    EXPECT_THAT(outcome.out, HasSubstr("trireme run -n "));
    return;
  }
  expect_all_ranks_well(
      run_child(by_mpirun(GetParam(), world_program({"sum"})), mpirun_variables()), GetParam());
}

TEST(StartedByMpirun, ProgramsThatInsistOnGlooMeetWhereTheVariablesSay) {
  if (mpi::library().empty()) return;  // there may be no mpirun
  Variables variables = mpirun_variables();
  variables["MASTER_ADDR"] = "127.0.0.1";
  variables["MASTER_PORT"] = std::to_string(free_port());
  expect_all_ranks_well(
      run_child(by_mpirun(3, world_program({"--backend", "gloo", "sum"})), variables), 3);
}

TEST(StartedWrongly, TheMpiBackendIsRequiredWithoutMpirun) {
  for (const Outcome& outcome : run_ranks(2, {"--backend", "mpi", "sum"}, torchrun(2))) {
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.out, HasSubstr("UsageError: connect: "));
    EXPECT_THAT(outcome.out,
                HasSubstr(mpi::library().empty()
                              ? "without MPI"
                              : "says rank 0 of 1: start the program by the mpirun of that MPI"));
  }
}

TEST(StartedWrongly, AnUnknownBackendIsRefused) {
  const Outcome outcome = run_child(world_program({"--backend", "smoke signals", "sum"}));
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.out,
            "rank 0: UsageError: connect: backend must be \"auto\", \"shm\", \"mpi\" or \"gloo\", "
            "got \"smoke signals\"\n");
}

TEST(StartedWrongly, NoServerListensAtTheAddress) {
  const int port = free_port();
  const Outcome outcome = run_child(world_program({"--timeout", "500", "sum"}),
                                    torchrun_variables(2, 3, "127.0.0.1", port));
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_THAT(outcome.out,
              HasSubstr(fmt::format("rank 2: CommError: connect: rank 2 of 3 did not reach rank 0 "
                                    "at 127.0.0.1:{} within 0.5 s",
                                    port)));
}

TEST(StartedWrongly, ThePortIsInUse) {
  const int port = free_port();
  const FileDescriptor other = listening_on(port);
  ASSERT_TRUE(other.is_open());
  const Outcome outcome =
      run_child(world_program({"sum"}), torchrun_variables(0, 2, "127.0.0.1", port));
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.out, HasSubstr(fmt::format("rank 0: UsageError: connect: rank 0 cannot serve "
                                                 "on port {}: Address already in use",
                                                 port)));
}

TEST(StartedWrongly, RanksThatDisagreeOnTheWorldSizeAllSayWho) {
  const VariablesOfRank three = torchrun(3);
  const std::vector<Outcome> outcomes = run_ranks(3, {"sum"}, [&](int rank) {
    Variables variables = three(rank);
    if (rank == 2) variables["WORLD_SIZE"] = "4";
    return variables;
  });
  for (const Outcome& outcome : outcomes) {
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.out, HasSubstr("UsageError: connect: "));
    EXPECT_THAT(outcome.out, HasSubstr("rank 2 is \"trireme "));
    EXPECT_THAT(outcome.out, HasSubstr("4 ranks\""));
    EXPECT_THAT(outcome.out, HasSubstr("3 ranks\""));
  }
}

TEST(StartedWrongly, AMissingRankIsNamedByAllOthers) {
  const VariablesOfRank four = torchrun(4);
  const std::vector<Outcome> outcomes =
      run_ranks(2, {"--timeout", "1500", "sum"}, [&](int child) { return four(2 * child); });
  for (const Outcome& outcome : outcomes) {
    EXPECT_EQ(outcome.exit_code, 4);
    EXPECT_THAT(outcome.out, HasSubstr("CommError: connect: ranks 1, 3 of 4 did not come to "));
  }
}

}  // namespace
}  // namespace trireme::test
