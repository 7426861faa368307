// The templates of deploy/, as far as they run on one host.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <regex>
#include <thread>

#include "tests/comm/loopback.h"
#include "tests/world/child.h"
#include "tests/world/world_program.h"
#include "trireme/comm/mpi/mpi.h"

namespace trireme::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

/// A folder that is removed with the test.
class Deploy : public testing::Test {
 protected:
  Deploy() {
    std::string pattern = (std::filesystem::temp_directory_path() / "trireme-test-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  ~Deploy() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = folder_ / name;
    std::ofstream(path) << text;
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return path;
  }

  /// With programs of this folder and trireme found first.
  Variables in_path(Variables variables) const {
    variables["PATH"] = fmt::format("{}:{}:{}", folder_.string(),
                                    trireme_program().parent_path().string(), getenv("PATH"));
    return variables;
  }

  std::filesystem::path folder_;
};

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

int count_of(const std::string& word, const std::string& text) {
  int count = 0;
  for (auto at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++count;
  return count;
}

Command deployed(const std::string& script, const Command& arguments) {
  Command command = {(deploy_folder() / script).string()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

void expect_sums_over_shared_memory(const Outcome& outcome, int ranks) {
  EXPECT_EQ(outcome.exit_code, 0) << outcome.out;
  for (int rank = 0; rank < ranks; ++rank) {
    EXPECT_THAT(outcome.out, HasSubstr(fmt::format("rank {} of {}: shared memory; {}\n", rank,
                                                   ranks, expected_sums(ranks))));
  }
}

// Like Slurm, its batch step included.
Variables batch_variables(int tasks) {
  static int job = getpid();
  return {{"SLURM_JOB_ID", std::to_string(++job)},
          {"SLURM_NTASKS", std::to_string(tasks)},
          {"SLURM_PROCID", "0"},
          {"SLURM_LOCALID", "0"},
          {"SLURM_JOB_NODELIST", "localhost"},
          {"SLURM_CPUS_PER_TASK", "1"}};
}

// An srun for one host. It ignores its options, except --mpi=pmix, for which it starts mpirun.
constexpr const char* kSrun = R"(#!/bin/bash
mpi=none
while [[ $1 == --* ]]; do
  [[ $1 == --mpi=* ]] && mpi=${1#--mpi=}
  shift
done
export SLURM_STEP_NODELIST=$SLURM_JOB_NODELIST SLURM_STEP_ID=0
tasks=()
trap 'kill -USR1 "${tasks[@]}"' USR1
if [[ $mpi == pmix ]]; then
  exec "$MPIRUN" -n "$SLURM_NTASKS" bash -c '
    export SLURM_PROCID=$PMIX_RANK SLURM_LOCALID=$PMIX_RANK
    unset ${!OMPI_COMM_WORLD_*}
    exec "$@"' task "$@"
fi
for ((i = 0; i < SLURM_NTASKS; ++i)); do
  SLURM_PROCID=$i SLURM_LOCALID=$i "$@" &
  tasks+=($!)
done
code=0
for task in "${tasks[@]}"; do
  while kill -0 "$task" 2>/dev/null; do wait "$task" || code=$?; done
done
exit $code
)";

TEST_F(Deploy, TheBatchScriptOfSlurmStartsTheRanksBySrun) {
  write("srun", kSrun);
  const Command command = deployed("slurm/trireme.sbatch", world_program({"sum"}));
  expect_sums_over_shared_memory(run_child(command, in_path(batch_variables(3))), 3);
}

TEST_F(Deploy, TheBatchScriptOfSlurmLetsMpiJoinTheRanks) {
  if (!mpi::library().starts_with("Open MPI")) return;  // MPICH 4.0 has PMI, not PMIx
  write("srun", kSrun);
  Variables variables = in_path(batch_variables(2));
  variables.merge(mpirun_variables());
  variables["SRUN_MPI"] = "pmix";
  variables["MPIRUN"] = mpirun_program();
  // Without MPI the ranks would not find each other: this host does not exist.
  variables["SLURM_JOB_NODELIST"] = "no-such-host.invalid";
  const Command command = deployed("slurm/trireme.sbatch", world_program({"sum"}));
  expect_sums_over_shared_memory(run_child(command, variables), 2);
}

TEST_F(Deploy, TheBatchScriptOfSlurmEndsWithTheErrorOfARank) {
  write("srun", kSrun);
  const Command command = deployed("slurm/trireme.sbatch", world_program({"mismatch", "1"}));
  const Outcome outcome = run_child(command, in_path(batch_variables(3)));
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.out, HasSubstr("UsageError"));
}

// As Slurm starts it, and sends SIGUSR1 before the limit.
TEST_F(Deploy, TheBatchScriptOfSlurmSavesQueuesAgainAndGoesOn) {
  write("srun", kSrun);
  write("scontrol", "#!/bin/sh\necho \"$@\" >>\"$(dirname \"$0\")/scontrol.log\"\n");
  const std::string run = (folder_ / "run").string();
  write("run.toml",
        "data = {format = \"linear_model\", samples = 600, features_count = 4}\n"
        "model.name = \"linear\"\n"
        "optimizer = {name = \"sgd\", lr = 0.01}\n"
        "training = {steps = 2000000, global_batch = 30}\n"
        "metrics.every_steps = 10\n");
  const Command command = deployed("slurm/trireme.sbatch",
                                   {"trireme", "train", (folder_ / "run.toml").string(), "--resume",
                                    "auto", "run.directory=" + run, "evaluation.every_epochs=0"});
  const Variables variables = in_path(batch_variables(2));
  for (int round = 1; round <= 2; ++round) {
    Child script(command, variables);
    const auto log = [&](int rank) {
      return read(folder_ / "run" / "logs" / fmt::format("rank-{}.log", rank));
    };
    // Each rank writes it once it would save.
    for (int i = 0; i < 6000 && std::min(count_of("communication: ", log(0)),
                                         count_of("communication: ", log(1))) < round;
         ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ::kill(script.pid(), SIGUSR1);
    const Outcome outcome = script.wait();
    EXPECT_EQ(outcome.exit_code, 128 + SIGUSR1) << outcome.out;
    EXPECT_THAT(outcome.out, HasSubstr("stopped as asked"));
    EXPECT_EQ(outcome.out.find("going on after step ") != std::string::npos, round == 2);
  }
  const std::string requeued = "requeue " + variables.at("SLURM_JOB_ID") + "\n";
  EXPECT_EQ(read(folder_ / "scontrol.log"), requeued + requeued);
}

TEST_F(Deploy, AProgramInABatchScriptWithoutSrunIsAWorldOfOne) {
  const Outcome outcome = run_child(world_program({"sum"}), batch_variables(3));
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.out, HasSubstr("rank 0 of 1: one rank"));
}

TEST_F(Deploy, ScriptsSayHowTheyAreCalled) {
  const Outcome sbatch = run_child(deployed("slurm/trireme.sbatch", {}));
  EXPECT_EQ(sbatch.exit_code, 2);
  EXPECT_THAT(sbatch.out, HasSubstr("usage: sbatch"));
  const Outcome mpirun = run_child(deployed("mpirun.sh", {"hosts"}));
  EXPECT_EQ(mpirun.exit_code, 2);
  EXPECT_THAT(mpirun.out, HasSubstr("deploy/mpirun.sh HOSTFILE RANKS program"));
  const Outcome unreadable = run_child(deployed("mpirun.sh", {"/nowhere", "2", "true"}));
  EXPECT_EQ(unreadable.exit_code, 2);
  EXPECT_THAT(unreadable.out, HasSubstr("cannot read the host file /nowhere"));
}

TEST_F(Deploy, MpirunStartsTheRanksOfAHostFile) {
  if (mpi::library().empty()) return;  // there may be no mpirun
  const std::string hosts = write("hosts", "localhost slots=3\n");
  Variables variables = mpirun_variables();
  variables["MPIRUN"] = mpirun_program();
  Command command = deployed("mpirun.sh", {hosts, "3"});
  for (const std::string& word : world_program({"sum"})) command.push_back(word);
  expect_sums_over_shared_memory(run_child(command, variables), 3);
}

// Null without a parser.
nlohmann::json parsed(const std::string& file) {
  const Outcome outcome =
      run_child({"python3", "-c",
                 "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))",
                 (deploy_folder() / "kubernetes" / file).string()});
  if (outcome.out.find("ModuleNotFoundError") != std::string::npos || outcome.exit_code == 127) {
    return nullptr;
  }
  EXPECT_EQ(outcome.exit_code, 0) << outcome.out;
  return nlohmann::json::parse(outcome.out);
}

nlohmann::json container_of(const nlohmann::json& replicas) {
  const nlohmann::json& containers = replicas.at("template").at("spec").at("containers");
  EXPECT_EQ(containers.size(), 1u);
  return containers.at(0);
}

TEST_F(Deploy, TheJobsOfKubernetesAreWellFormed) {
  for (const char* file : {"mpijob.yaml", "pytorchjob.yaml"}) {
    const std::string text = read(deploy_folder() / "kubernetes" / file);
    EXPECT_THAT(text, AllOf(HasSubstr("\napiVersion: kubeflow.org/"), HasSubstr("\nkind: "),
                            HasSubstr("\nspec:\n"), Not(HasSubstr("\t")), Not(HasSubstr(" \n")),
                            Not(HasSubstr("python "))));
  }
}

TEST_F(Deploy, TheMpiJobStartsAsManyRanksAsThereAreSlots) {
  const nlohmann::json job = parsed("mpijob.yaml");
  if (job.is_null()) return;
  EXPECT_EQ(job["apiVersion"], "kubeflow.org/v2beta1");
  EXPECT_EQ(job["kind"], "MPIJob");
  const nlohmann::json& spec = job["spec"];
  const nlohmann::json& replicas = spec["mpiReplicaSpecs"];
  EXPECT_EQ(replicas["Launcher"]["replicas"], 1);
  const int slots = spec["slotsPerWorker"].get<int>() * replicas["Worker"]["replicas"].get<int>();
  const nlohmann::json launcher = container_of(replicas["Launcher"]);
  EXPECT_EQ(launcher["command"][0], "mpirun");
  EXPECT_EQ(launcher["args"][0], "-n");
  EXPECT_EQ(launcher["args"][1], std::to_string(slots));
  EXPECT_EQ(container_of(replicas["Worker"])["image"], launcher["image"]);
}

TEST_F(Deploy, TemplatesForMpirunLeaveTimeToSave) {
  EXPECT_THAT(read(deploy_folder() / "mpirun.sh"),
              HasSubstr("--mca odls_base_sigkill_timeout \"${SAVE_SECONDS:-120}\""));
  const nlohmann::json job = parsed("mpijob.yaml");
  if (job.is_null()) return;
  const nlohmann::json launcher = container_of(job["spec"]["mpiReplicaSpecs"]["Launcher"]);
  EXPECT_EQ(launcher["env"][0]["name"], "OMPI_MCA_odls_base_sigkill_timeout");
  EXPECT_GE(std::stoi(launcher["env"][0]["value"].get<std::string>()), 60);
}

TEST_F(Deploy, TheContainersOfThePyTorchJobTrainAndGoOnFromTheirCheckpoint) {
  const nlohmann::json job = parsed("pytorchjob.yaml");
  if (job.is_null()) return;
  EXPECT_EQ(job["apiVersion"], "kubeflow.org/v1");
  EXPECT_EQ(job["kind"], "PyTorchJob");
  const nlohmann::json& replicas = job["spec"]["pytorchReplicaSpecs"];
  EXPECT_EQ(replicas["Master"]["replicas"], 1);
  const int ranks = 1 + replicas["Worker"]["replicas"].get<int>();
  const nlohmann::json container = container_of(replicas["Master"]);
  EXPECT_EQ(container, container_of(replicas["Worker"]));
  EXPECT_EQ(container["name"], "pytorch") << "the operator looks for it";

  // What it runs, with this folder in place of the volume.
  ASSERT_EQ(container["command"], nlohmann::json({"trireme", "train"}));
  Command command = {trireme_program().string(), "train"};
  for (const std::string& word : container["args"].get<Command>()) {
    command.push_back(std::regex_replace(word, std::regex("/data"), folder_.string()));
  }
  write("run.toml",
        "data = {format = \"linear_model\", samples = 600, features_count = 4}\n"
        "model.name = \"linear\"\n"
        "optimizer = {name = \"sgd\", lr = 0.01}\n"
        "training = {steps = 40, global_batch = 30}\n"
        "checkpoint.every_steps = 10\n");
  const auto train = [&] {
    const int port = free_port();
    std::vector<Child> pods;
    for (int rank = 0; rank < ranks; ++rank) {
      pods.emplace_back(command, in_path(torchrun_variables(rank, ranks, "127.0.0.1", port)));
    }
    for (Child& pod : pods) {
      const Outcome outcome = pod.wait();
      EXPECT_EQ(outcome.exit_code, 0) << outcome.out;
    }
  };
  train();
  const std::string model = read(folder_ / "run" / "model.safetensors");
  EXPECT_FALSE(model.empty());
  // As if the world had been lost after step 30.
  std::filesystem::remove(folder_ / "run" / "model.safetensors");
  std::filesystem::remove_all(folder_ / "run" / "checkpoints" / "step-40");
  train();
  EXPECT_EQ(read(folder_ / "run" / "model.safetensors"), model);
}

}  // namespace
}  // namespace trireme::test
