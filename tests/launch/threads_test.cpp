#include "trireme/launch/threads.h"

#include <gmock/gmock.h>

#include <map>

#include "trireme/base/error.h"

namespace trireme {
namespace {

using testing::HasSubstr;
using Variables = std::map<std::string, std::string>;

const RankEnvironment kAlone;

RankEnvironment started(Starter starter, int world_size) {
  RankEnvironment environment;
  environment.starter = starter;
  environment.world_size = world_size;
  return environment;
}

std::optional<ThreadChoice> threads(const Variables& variables,
                                    const RankEnvironment& environment = kAlone, int cores = 8) {
  return threads_of_environment(environment, cores, [&](const std::string& name) {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  });
}

TEST(Threads, AreLeftToTheCoresIfNothingIsSaid) {
  EXPECT_FALSE(threads({}));
  EXPECT_FALSE(threads({{"OMP_NUM_THREADS", ""}}));
  EXPECT_FALSE(threads({{"OMP_NUM_THREADS", " "}}));
}

TEST(Threads, AreThoseOfOpenMp) {
  for (const auto& [text, number] :
       std::map<std::string, int>{{"3", 3}, {" 5 ", 5}, {"4,2", 4}, {"6 , 1", 6}, {"64", 64}}) {
    const auto choice = threads({{"OMP_NUM_THREADS", text}});
    ASSERT_TRUE(choice) << text;
    EXPECT_EQ(choice->threads, number) << text;
    EXPECT_EQ(choice->reason, "OMP_NUM_THREADS = " + std::to_string(number));
  }
}

TEST(Threads, ThatAreNoNumberAreAnErrorThatNamesTheVariable) {
  for (const std::string text : {"0", "-2", "two", "2x", "2;3", "99999999999", "1.5"}) {
    try {
      threads({{"OMP_NUM_THREADS", text}});
      ADD_FAILURE() << text;
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), HasSubstr("OMP_NUM_THREADS must be a number of threads of at "
                                          "least 1, got \"" +
                                          text + "\""));
    }
  }
}

TEST(Threads, AreTheCoresOfATaskOfSlurm) {
  const Variables step = {{"SLURM_STEP_NODELIST", "node[1-2]"},
                          {"SLURM_STEP_NUM_TASKS", "4"},
                          {"SLURM_NTASKS", "9"},
                          {"SLURM_CPUS_PER_TASK", "3"}};
  EXPECT_EQ(threads(step, started(Starter::kSlurm, 4))->threads, 3);
  EXPECT_EQ(threads(step, started(Starter::kPmi, 4))->threads, 3) << "srun --mpi=pmi2";
  const auto bound = threads(step, started(Starter::kSlurm, 4), 2);
  EXPECT_EQ(bound->threads, 2);
  EXPECT_EQ(bound->reason, "SLURM_CPUS_PER_TASK = 3, and the rank may use 2 cores");

  EXPECT_FALSE(threads(step)) << "in a batch script: the ranks are no tasks";
  EXPECT_FALSE(threads(step, started(Starter::kOpenMpi, 8))) << "of an mpirun in the batch script";
  Variables both = step;
  both["OMP_NUM_THREADS"] = "7";
  EXPECT_EQ(threads(both, started(Starter::kSlurm, 4))->threads, 7);
}

}  // namespace
}  // namespace trireme
