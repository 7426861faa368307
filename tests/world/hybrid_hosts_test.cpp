// Hosts that train by themselves and synchronize from time to time over Gloo.
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

/// Trains a generated linear model by streaming DiLoCo, in a folder that is removed at the end.
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
                       fmt::format("training.steps={}", steps),
                       fmt::format("run.directory={}", (folder_ / run).string())};
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }

  Command streaming(const std::string& run, int steps, const Command& more) const {
    Command mode = {"communication.mode=hybrid", "communication.hybrid=diloco",
                    "communication.local_steps=6", "communication.fragments=2",
                    "communication.delay=1"};
    mode.insert(mode.end(), more.begin(), more.end());
    return training(run, steps, mode);
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
  const Outcome outcome =
      run_child(streaming("one", 40, {"-n", "4", "communication.group_size=2"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.out;
  const TestHosts hosts(2);
  for (Child& rank : on_two_hosts(hosts, streaming("two", 40, {"communication.group_size=0"}))) {
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
        on_two_hosts(hosts, streaming(run, 10'000'000, {"communication.group_size=0"}));
    ASSERT_TRUE(ranks[0].wait_for("communication: "));
    ranks[static_cast<std::size_t>(victim)].signal(SIGKILL);
    for (int rank = 0; rank < 4; ++rank) {
      const Outcome ended = ranks[static_cast<std::size_t>(rank)].wait();
      if (rank == victim) continue;
      EXPECT_EQ(ended.exit_code, 4) << rank << ": " << ended.out;
    }
  }
}

// Hosts that are workers of a server, which runs on the first.
class HostsAsWorkers : public HybridHosts {
 protected:
  HostsAsWorkers() {
    for (const char* name : {"server", "worker"}) {
      const Outcome made =
          run_child({trireme_program(), "keys", "new", (folder_ / name).string(), "--name", name});
      EXPECT_EQ(made.exit_code, 0) << made.out;
    }
  }

  std::string address() const { return fmt::format("tcp://{}:7000", hosts_.address(0)); }

  Child serve() const {
    return hosts_.start(0, {trireme_program(), "serve", "--bind", address(), "--secret",
                            (folder_ / "server" / "server.secret").string(), "--clients",
                            (folder_ / "worker").string()});
  }

  std::vector<Child> train(int steps, const Command& mode) const {
    Command command = {
        "communication.group_size=0", fmt::format("communication.servers=[\"{}\"]", address()),
        fmt::format("communication.secret_key={}", (folder_ / "worker" / "worker.secret").string()),
        fmt::format("communication.server_keys=[\"{}\"]",
                    (folder_ / "server" / "server.key").string())};
    command.insert(command.end(), mode.begin(), mode.end());
    return on_two_hosts(hosts_, training("run", steps, command));
  }

  TestHosts hosts_{2};
};

const Command kAsynchronous = {"communication.mode=asynchronous"};
const Command kBounded = {"communication.mode=hybrid", "communication.hybrid=bounded_staleness",
                          "communication.staleness=2"};

TEST_F(HostsAsWorkers, PushOnceAStepEach) {
  for (const Command& mode : {kAsynchronous, kBounded}) {
    Child server = serve();
    ASSERT_TRUE(server.wait_for("public key"));
    for (Child& rank : train(40, mode)) {
      const Outcome ended = rank.wait();
      EXPECT_EQ(ended.exit_code, 0) << ended.out;
    }
    const Outcome served = server.wait();
    EXPECT_EQ(served.exit_code, 0) << served.out;
    EXPECT_NE(served.out.find("all workers have left, after 80 updates"), std::string::npos)
        << served.out;
    std::filesystem::remove_all(folder_ / "run");
  }
}

// The first of a group talks with the server, the second does not.
TEST_F(HostsAsWorkers, AreLostWithAnyOfTheirRanksAndTheOtherGoesOn) {
  for (const int victim : {2, 3}) {
    Child server = serve();
    ASSERT_TRUE(server.wait_for("public key"));
    std::vector<Child> ranks = train(1000, kBounded);
    ASSERT_TRUE(ranks[0].wait_for("communication: "));
    ranks[static_cast<std::size_t>(victim)].signal(SIGKILL);
    for (int rank = 0; rank < 4; ++rank) {
      const Outcome ended = ranks[static_cast<std::size_t>(rank)].wait();
      if (rank == victim) continue;
      EXPECT_EQ(ended.exit_code, rank < 2 ? 0 : 4) << rank << ": " << ended.out;
    }
    EXPECT_EQ(server.wait().exit_code, 0);
    std::filesystem::remove_all(folder_ / "run");
  }
}

}  // namespace
}  // namespace trireme::test
