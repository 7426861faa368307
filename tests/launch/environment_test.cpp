#include "trireme/launch/environment.h"

#include <gmock/gmock.h>

#include <map>
#include <set>

#include "trireme/base/error.h"

namespace trireme {
namespace {

using Variables = std::map<std::string, std::string>;

// What srun sets and a batch script does not see.
const Variables::value_type kStep = {"SLURM_STEP_NODELIST", "node[1-2]"};

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
      {{"SLURM_PROCID", "5"}, {"SLURM_NTASKS", "8"}, {"SLURM_LOCALID", "1"}, kStep}};
  for (const Variables& variables : launchers) {
    SCOPED_TRACE(variables.begin()->first);
    const RankEnvironment environment = read(variables);
    EXPECT_EQ(environment.rank, 5);
    EXPECT_EQ(environment.world_size, 8);
    EXPECT_EQ(environment.local_rank, 1);
    if (environment.starter != Starter::kSlurm) {
      EXPECT_EQ(environment.local_world_size, 4);
    }
    for (const auto& [name, value] : variables) {
      if (name == kStep.first) continue;
      EXPECT_THAT(environment.variables, testing::HasSubstr(name));
    }
  }
}

TEST(Environment, PrefersTorchrunsVariablesToMpisAndThoseToSlurms) {
  Variables all = {{"RANK", "1"},
                   {"WORLD_SIZE", "2"},
                   {"PMI_RANK", "3"},
                   {"PMI_SIZE", "4"},
                   {"SLURM_PROCID", "5"},
                   {"SLURM_NTASKS", "6"},
                   kStep};
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

TEST(Environment, AShellOfSlurmSaysThatTheTasksOfTheJobAreNotUsed) {
  for (const Variables& shell :
       {Variables{{"SLURM_JOB_ID", "17"}}, Variables{{"SLURM_JOB_ID", "17"}, {"SLURM_NTASKS", "8"}},
        Variables{{"SLURM_JOB_ID", "17"}, {"SLURM_NTASKS", "1"}, {"SLURM_JOB_NUM_NODES", "2"}},
        Variables{{"SLURM_JOB_ID", "17"},
                  {"SLURM_PROCID", "0"},
                  {"SLURM_STEP_NODELIST", "a"},
                  {"SLURM_STEP_NUM_TASKS", "1"},
                  {"SLURM_STEP_ID", "4294967290"}}}) {
    const RankEnvironment environment = read(shell);
    EXPECT_EQ(environment.world_size, 1);
    EXPECT_THAT(environment.note, testing::HasSubstr("this is a shell of Slurm job 17"));
  }
  EXPECT_EQ(read({{"SLURM_JOB_ID", "17"}, {"SLURM_NTASKS", "1"}}).note, "");
  EXPECT_EQ(read({{"SLURM_JOB_ID", "17"}, {"RANK", "0"}, {"WORLD_SIZE", "8"}}).note, "");
  EXPECT_EQ(read({}).note, "");
}

TEST(Environment, ABatchScriptOfSlurmIsAWorldOfOne) {
  const RankEnvironment environment = read({{"SLURM_PROCID", "0"},
                                            {"SLURM_LOCALID", "0"},
                                            {"SLURM_NTASKS", "8"},
                                            {"SLURM_JOB_NODELIST", "node[1-2]"}});
  EXPECT_EQ(environment.world_size, 1);
  EXPECT_EQ(environment.starter, Starter::kNone);
}

TEST(Environment, ReadsTheDescriptorOfTheSharedWorld) {
  EXPECT_EQ(read({{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"TRIREME_WORLD_FD", "7"}}).world_fd, 7);
}

TEST(Environment, NamesTheStarter) {
  EXPECT_EQ(read({}).starter, Starter::kNone);
  EXPECT_EQ(read({{"RANK", "0"}, {"WORLD_SIZE", "2"}}).starter, Starter::kTorchrun);
  EXPECT_EQ(read({{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "2"}}).starter,
            Starter::kOpenMpi);
  EXPECT_EQ(read({{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}}).starter, Starter::kPmi);
  EXPECT_EQ(read({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, kStep}).starter, Starter::kSlurm);
}

TEST(Environment, TellsWhetherAnMpiCanJoinTheTasksOfSrun) {
  Variables srun = {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, kStep};
  EXPECT_FALSE(read(srun).speaks_pmix);
  srun["PMIX_RANK"] = "0";
  EXPECT_TRUE(read(srun).speaks_pmix);
  EXPECT_EQ(read(srun).starter, Starter::kSlurm);
}

TEST(Environment, MeetsAtMasterAddressAndPort) {
  Variables variables = {{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "10.0.0.7"}};
  EXPECT_EQ(read(variables).meeting.value().address, "10.0.0.7");
  EXPECT_EQ(read(variables).meeting.value().port, 29500) << "torchrun's usual one";
  variables["MASTER_PORT"] = "1234";
  EXPECT_EQ(read(variables).meeting.value().port, 1234);
  variables["MASTER_PORT"] = "0";
  EXPECT_EQ(error_of(variables),
            "environment: MASTER_PORT must be a whole number from 1 to 65535, got \"0\"");
  variables.erase("MASTER_ADDR");
  variables.erase("MASTER_PORT");
  EXPECT_FALSE(read(variables).meeting);
}

TEST(Environment, MeetsInTheStoreOfTorchrunsAgent) {
  Variables variables = {{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}};
  EXPECT_FALSE(read(variables).meeting.value().is_served);
  variables["TORCHELASTIC_USE_AGENT_STORE"] = "False";
  EXPECT_FALSE(read(variables).meeting.value().is_served);
  variables["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  variables["TORCHELASTIC_RESTART_COUNT"] = "3";
  EXPECT_TRUE(read(variables).meeting.value().is_served);
  EXPECT_EQ(read(variables).meeting.value().attempt, "3");
}

TEST(Environment, RanksOfMpirunMeetWhereTheyAreTold) {
  const Variables variables = {{"OMPI_COMM_WORLD_RANK", "0"},
                               {"OMPI_COMM_WORLD_SIZE", "2"},
                               {"MASTER_ADDR", "node1"},
                               {"MASTER_PORT", "4000"}};
  EXPECT_EQ(read(variables).meeting.value().address, "node1");
  EXPECT_EQ(read(variables).meeting.value().port, 4000);
}

TEST(Environment, TasksOfSrunMeetAtTheFirstHostOfTheirStep) {
  Variables variables = {{"SLURM_PROCID", "0"},
                         {"SLURM_NTASKS", "2"},
                         {"SLURM_JOB_NODELIST", "node[01-99]"},
                         {"SLURM_STEP_NODELIST", "step[07-09]"},
                         {"SLURM_JOB_ID", "1234567"}};
  EXPECT_EQ(read(variables).meeting.value().address, "step07");
  variables["MASTER_ADDR"] = "head";
  EXPECT_EQ(read(variables).meeting.value().address, "head");
}

TEST(Environment, JobsOfSlurmThatShareAHostMeetAtDifferentPorts) {
  Variables variables = {
      {"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, {"SLURM_STEP_NODELIST", "a"}};
  const auto port_of = [&](const std::string& job) {
    variables["SLURM_JOB_ID"] = job;
    return read(variables).meeting.value().port;
  };
  EXPECT_EQ(port_of("1234567"), 20000 + 1234567 % 12000);
  EXPECT_NE(port_of("1234567"), port_of("1234568"));
  variables["MASTER_PORT"] = "777";
  EXPECT_EQ(port_of("1234567"), 777);
}

TEST(Environment, StepsOfAJobMeetApart) {
  Variables variables = {{"SLURM_PROCID", "0"},
                         {"SLURM_STEP_NUM_TASKS", "2"},
                         {"SLURM_STEP_NODELIST", "a"},
                         {"SLURM_JOB_ID", "1234567"}};
  std::set<int> ports;
  std::set<std::string> jobs;
  for (int step = 0; step < 500; ++step) {
    variables["SLURM_STEP_ID"] = std::to_string(step);
    const RankEnvironment environment = read(variables);
    ports.insert(environment.meeting.value().port);
    jobs.insert(environment.job);
  }
  EXPECT_EQ(ports.size(), 500U);
  EXPECT_EQ(jobs.size(), 500U);
  EXPECT_GE(*ports.begin(), 20000);
  EXPECT_LT(*ports.rbegin(), 32000);
}

TEST(Environment, NamesTheJob) {
  const Variables rank = {{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"SLURM_JOB_ID", "7"}};
  EXPECT_EQ(read(rank).job, "");  // the other host may have been started over ssh
  Variables torchrun = rank;
  torchrun["TORCHELASTIC_RUN_ID"] = "elastic";
  EXPECT_EQ(read(torchrun).job, "elastic");
  torchrun["TRIREME_JOB_ID"] = "mine";
  EXPECT_EQ(read(torchrun).job, "mine");
  EXPECT_EQ(read({{"SLURM_PROCID", "0"},
                  {"SLURM_STEP_NUM_TASKS", "2"},
                  {"SLURM_JOB_ID", "7"},
                  {"SLURM_STEP_ID", "3"},
                  kStep})
                .job,
            "slurm 7.3");
}

TEST(Environment, TheTasksOfAStepCountAndNotThoseOfItsAllocation) {
  Variables step = {{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "3"}, kStep};
  EXPECT_EQ(read(step).world_size, 3);
  step["SLURM_NTASKS"] = "1";  // stale: rank 1 would be out of range
  EXPECT_EQ(read(step).world_size, 3);
}

TEST(Environment, AProgramInTheShellOfAnAllocationIsAWorldOfOne) {
  // salloc with an interactive step; a batch script whose variables were exported.
  for (const char* step : {"4294967290", "4294967291", "4294967295"}) {
    const RankEnvironment alone = read({{"SLURM_PROCID", "0"},
                                        {"SLURM_NTASKS", "8"},
                                        {"SLURM_STEP_NUM_TASKS", "1"},
                                        {"SLURM_JOB_ID", "7"},
                                        {"SLURM_STEP_ID", step},
                                        kStep});
    EXPECT_EQ(alone.world_size, 1);
    EXPECT_EQ(alone.starter, Starter::kNone);
  }
}

TEST(Environment, TheSecretOfTheLauncherWinsOverAFile) {
  const JobSecret secret = JobSecret::random();
  Variables variables = {{"RANK", "0"}, {"WORLD_SIZE", "2"}};
  EXPECT_FALSE(read(variables).secret.is_given());
  variables["TRIREME_JOB_SECRET_FILE"] = "/no/such/file";
  EXPECT_THROW(read(variables), DataError);
  variables["TRIREME_JOB_SECRET"] = secret.hex();
  EXPECT_EQ(read(variables).secret.key(), secret.key());
  variables["TRIREME_JOB_SECRET"] = "0123";
  EXPECT_EQ(error_of(variables),
            "environment: TRIREME_JOB_SECRET must be 64 hexadecimal digits, as `trireme run` sets "
            "it, got 4 characters; name the file of a secret in TRIREME_JOB_SECRET_FILE instead");
}

TEST(Environment, FindsTheFirstHostOfANodeList) {
  // As `scontrol show hostnames` lists them.
  const std::pair<const char*, const char*> lists[] = {
      {"localhost", "localhost"},
      {"node1,node2", "node1"},
      {"node[03-12,20],login1", "node03"},
      {"node[7,9-11]", "node7"},
      {"node[5]", "node5"},
      {"login1,node[03-12]", "login1"},
      {"a,b[1-2],c", "a"},
      {"node[1-2]-ib", "node1-ib"},
      {"rack[0-1]node[02-03],spare", "rack0node02"},
      {"r[10-12,3]n[7].cluster.example.org", "r10n7.cluster.example.org"},
      {"10.0.0.[1-4]", "10.0.0.1"},
      {"", ""},
  };
  for (const auto& [list, first] : lists) EXPECT_EQ(first_host(list), first) << list;
}

TEST(Environment, RefusesANodeListThatIsCutOff) {
  EXPECT_EQ(
      error_of(
          {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, {"SLURM_STEP_NODELIST", "node[03-12"}}),
      "environment: a bracket of Slurm's node list is not closed: \"node[03-12\"");
}

TEST(Environment, NamesTheVariableAndItsValue) {
  const std::pair<Variables, const char*> cases[] = {
      {{{"RANK", "two"}, {"WORLD_SIZE", "3"}},
       "environment: RANK must be a whole number from 0 to 1000000, got \"two\""},
      {{{"RANK", "-1"}, {"WORLD_SIZE", "3"}},
       "environment: RANK must be a whole number from 0 to 1000000, got \"-1\""},
      {{{"RANK", "1 "}, {"WORLD_SIZE", "3"}},
       "environment: RANK must be a whole number from 0 to 1000000, got \"1 \""},
      {{{"RANK", ""}, {"WORLD_SIZE", "3"}},
       "environment: RANK must be a whole number from 0 to 1000000, got \"\""},
      {{{"RANK", "0"}, {"WORLD_SIZE", "99999999999"}},
       "environment: WORLD_SIZE must be a whole number from 1 to 1000000, got \"99999999999\""},
      {{{"RANK", "0"}, {"WORLD_SIZE", "0"}},
       "environment: WORLD_SIZE must be a whole number from 1 to 1000000, got \"0\""},
      {{{"RANK", "3"}, {"WORLD_SIZE", "3"}}, "environment: RANK=3 must be below WORLD_SIZE=3"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "3"}, {"LOCAL_RANK", "2"}, {"LOCAL_WORLD_SIZE", "2"}},
       "environment: LOCAL_RANK=2 must be below LOCAL_WORLD_SIZE=2"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "0"}, {"LOCAL_WORLD_SIZE", "3"}},
       "environment: LOCAL_WORLD_SIZE=3 must be at most WORLD_SIZE=2"},
      {{{"WORLD_SIZE", "3"}},
       "environment: WORLD_SIZE is set but RANK is not; set both or neither"},
      {{{"RANK", "0"}}, "environment: RANK is set but WORLD_SIZE is not; set both or neither"},
      {{{"SLURM_PROCID", "0"}, kStep},
       "environment: SLURM_PROCID is set but SLURM_NTASKS is not; set both or neither"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"TRIREME_WORLD_FD", "x"}},
       "environment: TRIREME_WORLD_FD must be a whole number from 0 to 2147483647, got \"x\""},
      {{{"TRIREME_WORLD_FD", "7"}},
       "environment: TRIREME_WORLD_FD is set but RANK is not; set both or neither"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_WORLD_SIZE", "2"}},
       "environment: LOCAL_WORLD_SIZE is set but LOCAL_RANK is not; set both or neither"},
      {{{"RANK", "\x1b[2J"}, {"WORLD_SIZE", "3"}},
       "environment: RANK must be a whole number from 0 to 1000000, got \"\\x1b[2J\""},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", ""}},
       "environment: MASTER_ADDR must name a host, got \"\""},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "29500"}},
       "environment: MASTER_PORT is set but MASTER_ADDR is not; set both or neither"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "65536"}},
       "environment: MASTER_PORT must be a whole number from 1 to 65535, got \"65536\""},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", ""}},
       "environment: MASTER_PORT must be a whole number from 1 to 65535, got \"\""},
      {{{"RANK", "0"},
        {"WORLD_SIZE", "2"},
        {"MASTER_ADDR", "a"},
        {"TORCHELASTIC_USE_AGENT_STORE", "yes"}},
       "environment: TORCHELASTIC_USE_AGENT_STORE must be True or False, got \"yes\""},
      {{{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, {"SLURM_STEP_NODELIST", ""}},
       "environment: SLURM_STEP_NODELIST must name a host, got \"\""},
      {{{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, kStep, {"SLURM_JOB_ID", "seven"}},
       "environment: SLURM_JOB_ID must be a whole number from 0 to 4294967295, got \"seven\""},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"TRIREME_JOB_SECRET_FILE", ""}},
       "environment: TRIREME_JOB_SECRET_FILE must name a file, got \"\""},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {kTimeoutVariable, "1.5"}},
       "environment: TRIREME_TIMEOUT must be a whole number from 1 to 10000000, got \"1.5\""},
  };
  for (const auto& [variables, message] : cases) EXPECT_EQ(error_of(variables), message);
}

TEST(Environment, TakesTheJobNumbersOfFederatedClusters) {
  EXPECT_EQ(
      read({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, {"SLURM_JOB_ID", "4227858432"}, kStep})
          .meeting.value()
          .port,
      20000 + 4227858432 % 12000);
}

// A stray port does no harm where the ranks meet through MPI.
TEST(Environment, RanksOfMpirunNeedNoAddressBesideAPort) {
  EXPECT_FALSE(
      read({{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "2"}, {"MASTER_PORT", "29500"}})
          .meeting);
}

}  // namespace
}  // namespace trireme
