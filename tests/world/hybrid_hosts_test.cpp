// Hosts that train alone and come together now and then: Gloo between them.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <filesystem>

#include "tests/world/hosts.h"
#include "tests/world/world_program.h"
#include "trireme/base/files.h"

namespace trireme::test {
namespace {

/// Trains a generated linear model by streaming DiLoCo, in a folder that goes away.
class HybridHosts : public testing::Test {
 protected:
  HybridHosts() {
    std::string pattern = (std::filesystem::temp_directory_path() / "trireme-test-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  ~HybridHosts() override { std::filesystem::remove_all(folder_); }

  Command training(const std::string& run, int steps, const Command& more) const {
    Command command = {trireme_program(),
                       "train",
                       "data.samples=500",
                       "training.global_batch=24",
                       "training.virtual_workers=12",
                       "training.threads=1",
                       "communication.mode=hybrid",
                       "communication.hybrid=diloco",
                       "communication.local_steps=6",
                       "communication.fragments=2",
                       "communication.delay=1",
                       fmt::format("training.steps={}", steps),
                       fmt::format("run.directory={}", (folder_ / run).string())};
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }

  // Two ranks each.
  std::vector<Child> on_two_hosts(const TestHosts& hosts, const Command& command) const {
    std::vector<Child> ranks;
    for (int rank = 0; rank < 4; ++rank) {
      Variables variables = torchrun_variables(rank, 4, hosts.address(0), 29500);
      variables["LOCAL_RANK"] = std::to_string(rank % 2);
      variables["LOCAL_WORLD_SIZE"] = "2";
      ranks.push_back(hosts.start(rank / 2, command, variables));
    }
    return ranks;
  }

  std::string model(const std::string& run) const {
    return read_file(folder_ / run / "model.safetensors");
  }

  std::filesystem::path folder_;
};

TEST_F(HybridHosts, HaveTheBitsOfGroupsOnOneHost) {
  const Outcome outcome = run_child(training("one", 40, {"-n", "4", "communication.group_size=2"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.out;
  const TestHosts hosts(2);
  for (Child& rank : on_two_hosts(hosts, training("two", 40, {"communication.group_size=0"}))) {
    const Outcome ended = rank.wait();
    EXPECT_EQ(ended.exit_code, 0) << ended.out;
  }
  EXPECT_TRUE(model("two") == model("one"));
}

TEST_F(HybridHosts, LearnOfARankThatWasKilled) {
  const TestHosts hosts(2);
  // The first of a group talks with the other host, the second does not.
  for (const int victim : {2, 3}) {
    const std::string run = fmt::format("run-{}", victim);
    std::vector<Child> ranks =
        on_two_hosts(hosts, training(run, 10'000'000, {"communication.group_size=0"}));
    ASSERT_TRUE(ranks[0].wait_for("communication: "));
    ranks[static_cast<std::size_t>(victim)].signal(SIGKILL);
    for (int rank = 0; rank < 4; ++rank) {
      const Outcome ended = ranks[static_cast<std::size_t>(rank)].wait();
      if (rank == victim) continue;
      EXPECT_EQ(ended.exit_code, 4) << rank << ": " << ended.out;
    }
  }
}

}  // namespace
}  // namespace trireme::test
