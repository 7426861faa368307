#include "trireme/launch/environment.h"

#include <gmock/gmock.h>

#include <map>

#include "trireme/base/error.h"

namespace trireme {
namespace {

using Variables = std::map<std::string, std::string>;

RankEnvironment read(const Variables& variables) {
  return read_environment([&](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  });
}

std::string error_of(const Variables& variables) {
  try {
    read(variables);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Environment, WithoutVariablesIsAWorldOfOne) {
  const RankEnvironment alone = read({});
  EXPECT_EQ(alone.rank, 0);
  EXPECT_EQ(alone.world_size, 1);
  EXPECT_EQ(alone.local_world_size, 1);
  EXPECT_FALSE(alone.world_fd);
  EXPECT_EQ(alone.variables, "");
}

TEST(Environment, ReadsEveryLaunchersVariables) {
  const Variables launchers[] = {
      {{"RANK", "5"}, {"WORLD_SIZE", "8"}, {"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "4"}},
      {{"OMPI_COMM_WORLD_RANK", "5"},
       {"OMPI_COMM_WORLD_SIZE", "8"},
       {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
       {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}},
      {{"PMI_RANK", "5"}, {"PMI_SIZE", "8"}, {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "4"}},
      {{"SLURM_PROCID", "5"}, {"SLURM_NTASKS", "8"}, {"SLURM_LOCALID", "1"}}};
  for (const Variables& variables : launchers) {
    SCOPED_TRACE(variables.begin()->first);
    const RankEnvironment environment = read(variables);
    EXPECT_EQ(environment.rank, 5);
    EXPECT_EQ(environment.world_size, 8);
    EXPECT_EQ(environment.local_rank, 1);
    if (variables.size() == 4) {
      EXPECT_EQ(environment.local_world_size, 4);
    }
    for (const auto& [name, value] : variables) {
      EXPECT_THAT(environment.variables, testing::HasSubstr(name));
    }
  }
}

TEST(Environment, PrefersTorchrunsVariablesToMpisAndThoseToSlurms) {
  Variables all = {{"RANK", "1"},     {"WORLD_SIZE", "2"},   {"PMI_RANK", "3"},
                   {"PMI_SIZE", "4"}, {"SLURM_PROCID", "5"}, {"SLURM_NTASKS", "6"}};
  EXPECT_EQ(read(all).world_size, 2);
  all.erase("RANK");
  all.erase("WORLD_SIZE");
  EXPECT_EQ(read(all).world_size, 4);
  all.erase("PMI_RANK");
  EXPECT_EQ(read(all).world_size, 6);
}

TEST(Environment, TakesOneRankAPodWithoutLocalVariables) {
  const RankEnvironment environment = read({{"RANK", "2"}, {"WORLD_SIZE", "3"}});
  EXPECT_EQ(environment.local_rank, 0);
  EXPECT_FALSE(environment.local_world_size);
}

TEST(Environment, AnAllocationOfSlurmThatStartedNoTaskIsAWorldOfOne) {
  EXPECT_EQ(read({{"SLURM_NTASKS", "8"}}).world_size, 1);
}

TEST(Environment, ReadsTheDescriptorOfTheSharedWorld) {
  EXPECT_EQ(read({{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"TRIREME_WORLD_FD", "7"}}).world_fd, 7);
}

TEST(Environment, NamesTheVariableAndItsValue) {
  const std::pair<Variables, const char*> cases[] = {
      {{{"RANK", "two"}, {"WORLD_SIZE", "3"}},
       "environment: RANK must be a whole number of at least 0, got \"two\""},
      {{{"RANK", "-1"}, {"WORLD_SIZE", "3"}},
       "environment: RANK must be a whole number of at least 0, got \"-1\""},
      {{{"RANK", "1 "}, {"WORLD_SIZE", "3"}},
       "environment: RANK must be a whole number of at least 0, got \"1 \""},
      {{{"RANK", ""}, {"WORLD_SIZE", "3"}},
       "environment: RANK must be a whole number of at least 0, got \"\""},
      {{{"RANK", "0"}, {"WORLD_SIZE", "99999999999"}},
       "environment: WORLD_SIZE must be a whole number of at least 1, got \"99999999999\""},
      {{{"RANK", "0"}, {"WORLD_SIZE", "0"}},
       "environment: WORLD_SIZE must be a whole number of at least 1, got \"0\""},
      {{{"RANK", "3"}, {"WORLD_SIZE", "3"}}, "environment: RANK=3 must be below WORLD_SIZE=3"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "3"}, {"LOCAL_RANK", "2"}, {"LOCAL_WORLD_SIZE", "2"}},
       "environment: LOCAL_RANK=2 must be below LOCAL_WORLD_SIZE=2"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "0"}, {"LOCAL_WORLD_SIZE", "3"}},
       "environment: LOCAL_WORLD_SIZE=3 must be at most WORLD_SIZE=2"},
      {{{"WORLD_SIZE", "3"}},
       "environment: WORLD_SIZE is set but RANK is not; set both or neither"},
      {{{"RANK", "0"}}, "environment: RANK is set but WORLD_SIZE is not; set both or neither"},
      {{{"SLURM_PROCID", "0"}},
       "environment: SLURM_PROCID is set but SLURM_NTASKS is not; set both or neither"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"TRIREME_WORLD_FD", "x"}},
       "environment: TRIREME_WORLD_FD must be a whole number of at least 0, got \"x\""},
  };
  for (const auto& [variables, message] : cases) EXPECT_EQ(error_of(variables), message);
}

}  // namespace
}  // namespace trireme
