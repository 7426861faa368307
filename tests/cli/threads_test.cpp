// How many threads a rank computes with, on which cores, and that the bits do not depend on it
// where virtual workers are given.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <thread>

#include "tests/cli/program.h"
#include "tests/comm/loopback.h"
#include "trireme/base/files.h"
#include "trireme/cli/rank_threads.h"
#include "trireme/launch/machine.h"

namespace trireme::test {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

using Words = std::vector<std::string>;
using Variables = std::map<std::string, std::string>;

/// Variables of the environment, until destroyed.
class Environment {
 public:
  explicit Environment(Variables variables) : variables_(std::move(variables)) {
    for (const auto& [name, value] : variables_) ::setenv(name.c_str(), value.c_str(), 1);
  }
  ~Environment() {
    for (const auto& [name, value] : variables_) ::unsetenv(name.c_str());
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  Variables variables_;
};

int cores() {
  return usable_cores();
}

// The line of the log of rank 0 on threads.
std::string threads_of(const std::filesystem::path& run) {
  std::istringstream log(read_file(run / "logs/rank-0.log"));
  for (std::string line; std::getline(log, line);) {
    const auto at = line.find("threads: ");
    if (at != std::string::npos) return line.substr(at + 9);
  }
  return "none";
}

std::string trained(const TemporaryFolder& folder, Words words) {
  static int count = 0;
  const std::string run = fmt::format("run-{}", ++count);
  words.insert(words.begin(), {"train", "data.samples=64", "data.features_count=3",
                               "training.steps=2", "run.directory=" + run});
  const Ended ended = run_program(folder.path(), words);
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  return threads_of(folder / run);
}

// The first configuration of README.md.
std::string configuration_of_readme() {
  const std::string text = read_file(std::filesystem::path(TRIREME_SOURCES) / "README.md");
  const auto begin = text.find("```toml\n") + 8;
  return text.substr(begin, text.find("```\n", begin) - begin);
}

std::string houses() {
  std::string text = "rooms,area,age,price\n";
  for (int i = 0; i < 400; ++i) {
    text += fmt::format("{},{},{},{}\n", i % 7, 30 + (i * 37) % 101, (i * 11) % 60,
                        100 + 3 * (i % 7) + (i * 37) % 101);
  }
  return text;
}

TEST(ReadmesExample, LeavesTheSameBitsOnAnyNumberOfRanks) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "houses.csv", houses());
  write_file_atomically(folder / "run.toml", configuration_of_readme());
  const auto model = [&](int ranks, const Words& more) {
    const std::string run = fmt::format("run-{}-{}", ranks, more.size());
    // Large enough for libtorch to use its threads.
    Words words = {"train",
                   "run.toml",
                   "-n",
                   std::to_string(ranks),
                   "training.epochs=1",
                   "training.global_batch=300",
                   "model.hidden=[256, 256]",
                   "run.directory=" + run};
    words.insert(words.end(), more.begin(), more.end());
    const Ended ended = run_program(folder.path(), words);
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    return read_file(folder / run / "model.safetensors");
  };
  const Environment two_threads(Variables{{"OMP_NUM_THREADS", "2"}});
  const std::string alone = model(1, {});
  for (const int ranks : {2, 3}) EXPECT_TRUE(model(ranks, {}) == alone) << ranks << " ranks";
  EXPECT_THAT(threads_of(folder / "run-1-0"), HasSubstr("1 a rank (virtual workers are given)"));
  EXPECT_TRUE(model(1, {"training.threads=1"}) == alone);
}

TEST(Threads, OfARankAreOneWithVirtualWorkersAndIdleCoresAreNamed) {
  const TemporaryFolder folder;
  if (cores() < 2) return;
  EXPECT_EQ(trained(folder, {"-n", "1", "training.virtual_workers=6"}),
            fmt::format("1 a rank (virtual workers are given); {} of {} cores stay{} idle: more "
                        "ranks would use them, with the same bits",
                        cores() - 1, cores(), cores() == 2 ? "s" : ""));
  EXPECT_THAT(trained(folder, {"-n", "1", "training.virtual_workers=1"}),
              EndsWith("idle: training.threads would use them, with other bits"));
  EXPECT_THAT(trained(folder, {"-n", "1", "training.virtual_workers=6", "training.threads=2"}),
              AllOf(StartsWith("2 a rank (training.threads)"),
                    EndsWith("; the bits may be others than with training.threads = 1")));
  EXPECT_THAT(trained(folder, {"-n", "1", "training.threads=2"}), Not(HasSubstr("bits")));
}

TEST(Threads, OfARankAreAsTheEnvironmentSaysAndElseTheCoresOfItsShare) {
  const TemporaryFolder folder;
  ::unsetenv("OMP_NUM_THREADS");
  EXPECT_EQ(trained(folder, {"-n", "1"}),
            fmt::format("{0} a rank ({0} core{1} for 1 rank)", cores(), cores() == 1 ? "" : "s"));
  EXPECT_THAT(trained(folder, {"-n", std::to_string(cores() + 1)}),
              AllOf(StartsWith("1 a rank ("), Not(HasSubstr("idle"))));
  const Environment one(Variables{{"OMP_NUM_THREADS", "1"}});
  EXPECT_THAT(trained(folder, {"-n", "1"}), StartsWith("1 a rank (OMP_NUM_THREADS = 1)"));
  const Environment many(Variables{{"OMP_NUM_THREADS", std::to_string(cores() + 3)}});
  EXPECT_THAT(trained(folder, {"-n", "1"}),
              HasSubstr(fmt::format("; more than the {} core", cores())));
  EXPECT_THAT(trained(folder, {"-n", "1", "training.threads=1"}),
              StartsWith("1 a rank (training.threads)"));
  const Environment none(Variables{{"OMP_NUM_THREADS", "none"}});
  const Ended ended = run_program(folder.path(), {"train", "training.steps=1"});
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_THAT(ended.err, HasSubstr("OMP_NUM_THREADS must be a number of threads"));
}

TEST(Ranks, AreNoMoreThanSamplesInAStep) {
  const TemporaryFolder folder;
  const Ended ended = run_program(
      folder.path(), {"train", "data.samples=64", "training.steps=2", "training.global_batch=1"});
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_THAT(ended.err, HasSubstr("\n1 rank x "));
}

// The cores of a process, as the kernel lists them: "0-1".
std::string cores_of(pid_t process) {
  std::ifstream status(fmt::format("/proc/{}/status", process));
  const std::string name = "Cpus_allowed_list:\t";
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name)) return line.substr(name.size());
  }
  return "";
}

// Two ranks that srun has started on this host without binding them.
Variables task_of_slurm(int rank, int job) {
  return {{"SLURM_JOB_ID", std::to_string(job)},  {"SLURM_STEP_ID", "0"},
          {"SLURM_STEP_NODELIST", "127.0.0.1"},   {"SLURM_STEP_NUM_TASKS", "2"},
          {"SLURM_PROCID", std::to_string(rank)}, {"SLURM_LOCALID", std::to_string(rank)},
          {"MASTER_PORT", std::to_string(job)}};
}

bool wait_until(const std::function<bool()>& done) {
  for (int tries = 0; tries < 3000; ++tries) {
    if (done()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

TEST(RanksOfSlurm, ThatAreNotBoundTakeTheirPartOfTheCores) {
  const TemporaryFolder folder;
  const int port = free_port();
  const Words words = {"train", "data.samples=64", "training.steps=100000000", "run.directory=run"};
  std::vector<std::unique_ptr<Program>> ranks;
  for (const int rank : {0, 1}) {
    const Environment task(task_of_slurm(rank, port));
    ranks.push_back(std::make_unique<Program>(folder.path(), words));
  }
  for (const int rank : {0, 1}) {
    ranks[static_cast<std::size_t>(rank)]->wait_for(fmt::format("run/logs/rank-{}.log", rank),
                                                    "threads: ");
  }
  EXPECT_EQ(threads_of(folder / "run").substr(0, 10),
            fmt::format("{} a rank (", std::max(1, cores() / 2)).substr(0, 10));
  if (cores_of_affinity().size() < 2) return;
  EXPECT_NE(cores_of(ranks[0]->pid()), cores_of(ranks[1]->pid()));
}

TEST(BenchmarkedRanks, OfAnotherLauncherAreBoundToACoreEach) {
  if (cores_of_affinity().size() < 2) return;
  const TemporaryFolder folder;
  const int port = free_port();
  std::vector<std::unique_ptr<Program>> ranks;
  for (const int rank : {0, 1}) {
    const Environment task(task_of_slurm(rank, port));
    ranks.push_back(std::make_unique<Program>(
        folder.path(), Words{"bench", "all-reduce", "--sizes", "4", "--seconds", "3000"}));
  }
  const auto is_one = [](const std::string& list) {
    return !list.empty() && list.find_first_of(",-") == std::string::npos;
  };
  EXPECT_TRUE(wait_until([&] {
    return is_one(cores_of(ranks[0]->pid())) && is_one(cores_of(ranks[1]->pid()));
  })) << cores_of(ranks[0]->pid());
  EXPECT_NE(cores_of(ranks[0]->pid()), cores_of(ranks[1]->pid()));
}

// What mpirun does to two ranks on a large host.
TEST(LineOnThreads, NamesTheCoresThatTheLauncherWithholds) {
  const CoreShare bound{.cores = {0}, .threads = 1, .ranks_of_host = 2, .cores_of_host = 2};
  EXPECT_EQ(cli::line_on_threads({}, cli::threads_of_share(bound), bound, 62),
            "1 a rank (2 cores for 2 ranks); the launcher has bound the ranks of this host to 2 "
            "cores, and may use 62 more (mpirun: --bind-to none)");
  EXPECT_EQ(cli::line_on_threads({}, {2, "OMP_NUM_THREADS = 2"}, bound, 0),
            "2 a rank (OMP_NUM_THREADS = 2); more than the 1 core that the rank may use");
  const CoreShare overlapping{
      .cores = {0, 1}, .is_own = false, .threads = 1, .ranks_of_host = 2, .cores_of_host = 3};
  EXPECT_EQ(cli::line_on_threads({}, {2, "OMP_NUM_THREADS = 2"}, overlapping, 0),
            "2 a rank (OMP_NUM_THREADS = 2); 4 threads on 3 cores");
}

}  // namespace
}  // namespace trireme::test
