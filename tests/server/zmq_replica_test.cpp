// A primary and its replica: whichever of the two is killed, no push that was replied to is lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "tests/comm/message_of.h"
#include "tests/comm/ranks.h"
#include "tests/formats/temporary_folder.h"
#include "tests/server/proxy.h"
#include "trireme/base/error.h"
#include "trireme/server/zmq/connect_servers.h"
#include "trireme/server/zmq/keys.h"
#include "trireme/server/zmq/zmq_server.h"

namespace trireme::test {
namespace {

using namespace std::chrono_literals;
using server::Client;
using server::Consistency;
using server::Gradient;
using server::ModelSchema;
using server::TableValues;
using server::ZmqServer;
using testing::HasSubstr;
using Mode = Consistency::Mode;

constexpr int kTakenOver = 7;

/// A server in a process of its own, which a test can kill. It must be made before this process has
/// threads, and starts when it is given its replica.
class ServerProcess {
 public:
  explicit ServerProcess(ZmqServer::Options options) {
    if (pipe(to_.data()) != 0 || pipe(from_.data()) != 0) throw std::runtime_error("pipe failed");
    process_ = fork();
    if (process_ == 0) serve(std::move(options));
  }
  ~ServerProcess() {
    kill(SIGKILL);
    wait();
    for (const int fd : {to_[0], to_[1], from_[0], from_[1]}) close(fd);
  }

  std::string start(const std::string& replica) {
    write_line(to_[1], replica);
    return read_line(from_[0]);
  }

  void kill(int signal) const {
    if (process_ < 0) return;
    ::kill(process_, signal);
    // Its threads run until one of them has noticed the signal.
    int status = 0;
    if (signal == SIGSTOP) waitpid(process_, &status, WUNTRACED);
  }

  int wait() {
    int status = 0;
    if (process_ > 0) waitpid(process_, &status, 0);
    process_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  [[noreturn]] void serve(ZmqServer::Options options) const {
    options.replica = read_line(to_[0]);
    int code = 0;
    try {
      ZmqServer server(options);
      write_line(from_[1], server.endpoint());
      while (!server.wait_until_over(1s)) {
      }
    } catch (const CommError& error) {
      code = std::string(error.what()).find("has taken over") != std::string::npos ? kTakenOver : 1;
    } catch (const std::exception&) {
      code = 1;
    }
    _exit(code);
  }

  static void write_line(int fd, std::string line) {
    line += '\n';
    ASSERT_EQ(write(fd, line.data(), line.size()), static_cast<ssize_t>(line.size()));
  }
  static std::string read_line(int fd) {
    std::string line;
    char c = 0;
    while (read(fd, &c, 1) == 1 && c != '\n') line += c;
    return line;
  }

  std::array<int, 2> to_{};
  std::array<int, 2> from_{};
  pid_t process_ = -1;
};

class Replica : public testing::Test {
 protected:
  void use_keys() {
    keys_ = true;
    server::write_key_files(folder(), "server", server::new_key_pair());
    server::write_key_files(folder(), "replica", server::new_key_pair());
    server::write_key_files(folder() / "clients", "worker", server::new_key_pair());
    std::filesystem::copy(folder() / "server.key", folder() / "clients");
  }

  ZmqServer::Options options(bool standby) {
    ZmqServer::Options options{.endpoint = "tcp://127.0.0.1:0", .standby = standby};
    options.insecure_loopback = !keys_;
    if (keys_) {
      options.secret_key = folder() / (standby ? "replica.secret" : "server.secret");
      options.clients = folder() / "clients";
      if (!standby) options.replica_key = folder() / "replica.key";
    }
    options.log = [this](const std::string& line) {
      const std::lock_guard lock(mutex_);
      log_ += line + "\n";
    };
    return options;
  }

  std::unique_ptr<Client> connect(std::vector<std::string> addresses, int worker) const {
    server::ServersOptions options{.addresses = std::move(addresses), .replicas = 1};
    options.worker = worker;
    options.timeout = 1min;
    options.dead_after = dead_after_;
    if (keys_) {
      options.secret_key = folder() / "clients" / "worker.secret";
      options.server_keys = {folder() / "server.key", folder() / "replica.key"};
    }
    return server::connect_servers(options);
  }

  std::string log() {
    const std::lock_guard lock(mutex_);
    return log_;
  }

  void wait_until_replicated() {
    for (int i = 0; i < 1000 && log().find("replicates") == std::string::npos; ++i) {
      std::this_thread::sleep_for(10ms);
    }
  }

  const std::filesystem::path& folder() const { return folder_.path(); }

  static ModelSchema schema(Mode mode, int workers) {
    return {.dense = {{"w", kCount}},
            .consistency = {.mode = mode, .workers = workers, .staleness = 1}};
  }

  /// Each worker adds 1 to its own half with each of its steps, and sees in what it reads that all
  /// its pushes count, once. `at_step` is called before each.
  void train(const std::vector<std::string>& addresses, Mode mode, int steps,
             const std::function<void(int worker, int step)>& at_step) {
    run_threads(2, [&](int worker) {
      const auto client = connect(addresses, worker);
      client->join(schema(mode, 2));
      std::vector<float> values(kCount);
      std::vector<float> gradient(kCount);
      std::fill_n(gradient.begin() + worker * kCount / 2, kCount / 2, -1.F);
      const TableValues wanted{.table = "w", .values = buffer_of<float>(values)};
      if (worker == 0) client->store({&wanted, 1});
      client->pull({&wanted, 1});
      const double lr = mode == Mode::kSynchronous ? 2 : 1;  // of the mean
      for (int step = 0; step < steps; ++step) {
        at_step(worker, step);
        const Gradient push{.table = "w", .values = buffer_of<float>(gradient)};
        client->push_pull({&push, 1}, {.lr = lr}, {&wanted, 1});
        const float own = values[static_cast<std::size_t>(worker * kCount / 2)];
        ASSERT_EQ(own, static_cast<float>(step + 1)) << "worker " << worker;
      }
      if (worker > 0) return client->leave();
      client->drain();
      client->fetch({&wanted, 1});
      for (const float value : values) ASSERT_EQ(value, static_cast<float>(steps));
      client->leave();
    });
  }

  static constexpr std::int64_t kCount = 40'000;
  bool keys_ = false;
  std::chrono::milliseconds dead_after_ = 60s;

 private:
  TemporaryFolder folder_;
  std::mutex mutex_;
  std::string log_;
};

class ReplicaIn : public Replica, public testing::WithParamInterface<std::tuple<Mode, bool>> {};

TEST_P(ReplicaIn, TakesOverFromAServerThatIsKilled) {
  const auto [mode, keys] = GetParam();
  if (keys) use_keys();
  ServerProcess first(options(false));
  ZmqServer second(options(true));
  const std::string address = first.start(second.endpoint());
  EXPECT_TRUE(second.is_standby());
  train({address, second.endpoint()}, mode, 60, [&](int worker, int step) {
    if (worker == 0 && step == 30) first.kill(SIGKILL);
  });
  EXPECT_FALSE(second.is_standby());
  EXPECT_EQ(second.counts().version, mode == Mode::kSynchronous ? 60 : 120);
  EXPECT_THAT(log(), HasSubstr("takes over after"));
  EXPECT_TRUE(second.wait_until_over(10s));
}

TEST_P(ReplicaIn, ThatIsKilledIsNotNeeded) {
  const auto [mode, keys] = GetParam();
  if (keys) use_keys();
  ServerProcess second(options(true));
  const std::string replica = second.start("");
  ZmqServer::Options options = Replica::options(false);
  options.replica = replica;
  ZmqServer first(options);
  train({first.endpoint(), replica}, mode, 60, [&](int worker, int step) {
    if (worker == 0 && step == 30) second.kill(SIGKILL);
  });
  EXPECT_EQ(first.counts().version, mode == Mode::kSynchronous ? 60 : 120);
  EXPECT_THAT(log(), HasSubstr("is lost; continuing without it"));
}

std::string case_name(const testing::TestParamInfo<std::tuple<Mode, bool>>& info) {
  const auto [mode, keys] = info.param;
  const std::string modes[] = {"Synchronous", "Bounded", "Asynchronous"};
  return modes[static_cast<int>(mode)] + (keys ? "WithKeys" : "");
}

INSTANTIATE_TEST_SUITE_P(Modes, ReplicaIn,
                         testing::Combine(testing::Values(Mode::kSynchronous, Mode::kBounded,
                                                          Mode::kAsynchronous),
                                          testing::Bool()),
                         case_name);

TEST_F(Replica, KeepsAWorkerThatComputesDuringTheTakeover) {
  ServerProcess first(options(false));
  ZmqServer::Options standby = options(true);
  standby.gone_after = 3s;
  ZmqServer second(standby);
  const std::string address = first.start(second.endpoint());
  train({address, second.endpoint()}, Mode::kBounded, 5, [&](int worker, int step) {
    if (worker == 0 && step == 3) first.kill(SIGKILL);
    if (worker == 1 && step == 3) std::this_thread::sleep_for(7s);
  });
  EXPECT_THAT(log(), testing::Not(HasSubstr("lost")));
}

TEST_F(Replica, LeavesTheWorkToItsPrimaryWhileThatIsAlive) {
  ServerProcess first(options(false));
  ZmqServer second(options(true));
  const auto refused = [&] {
    server::ServersOptions options{.addresses = {second.endpoint()}, .timeout = 10s};
    return message_of<CommError>(
        [&] { server::connect_servers(options)->join(schema(Mode::kAsynchronous, 1)); });
  };
  EXPECT_THAT(refused(), HasSubstr("is a replica, and no primary has connected to it"));
  const std::string address = first.start(second.endpoint());
  wait_until_replicated();
  EXPECT_THAT(refused(), HasSubstr("is a replica, and its primary is alive"));
  EXPECT_TRUE(second.is_standby());
}

TEST_F(Replica, EndsAPrimaryThatHungAndResumes) {
  dead_after_ = 4s;
  ServerProcess first(options(false));
  ZmqServer::Options standby = options(true);
  standby.dead_after = 4s;
  ZmqServer second(standby);
  const std::string address = first.start(second.endpoint());
  train({address, second.endpoint()}, Mode::kAsynchronous, 20, [&](int worker, int step) {
    if (worker == 0 && step == 10) first.kill(SIGSTOP);
    if (worker == 0 && step == 19) first.kill(SIGCONT);
  });
  EXPECT_EQ(second.counts().version, 40);
  first.kill(SIGCONT);
  EXPECT_EQ(first.wait(), kTakenOver);
}

// Otherwise the updates that the primary has replied to since would be lost.
TEST_F(Replica, ThatIsNotUpToDateEnds) {
  ServerProcess first(options(false));
  ZmqServer second(options(true));
  const Proxy cable(second.endpoint(),
                    [](int i) { return Proxy::Plan{.bytes = i == 0 ? 2'000'000 : 0}; });
  const std::string address = first.start(cable.endpoint());
  train({address, second.endpoint()}, Mode::kAsynchronous, 30, [&](int worker, int step) {
    if (worker == 0 && step == 25) std::this_thread::sleep_for(3s);
  });
  EXPECT_TRUE(second.is_standby());
  EXPECT_THAT(message_of<CommError>([&] { second.wait_until_over(10s); }),
              HasSubstr("its primary has continued without it, says worker"));
}

TEST_F(Replica, ReplicatesOneServerOnly) {
  ZmqServer second(options(true));
  const auto ends_with = [&](ZmqServer::Options options, ZmqServer& replica) {
    options.replica = replica.endpoint();
    ZmqServer first(options);
    return message_of<CommError>([&] {
      for (int i = 0; i < 30; ++i) first.wait_until_over(100ms);
    });
  };
  ZmqServer::Options other = options(false);
  other.shard = 1;
  other.shards = 2;
  EXPECT_THAT(ends_with(other, second),
              HasSubstr("it is the replica of server 0 of 1, not of 1 of 2"));
  ZmqServer third(options(false));
  EXPECT_THAT(ends_with(options(false), third), HasSubstr("it is not a standby"));
  ZmqServer::Options right = options(false);
  right.replica = second.endpoint();
  ZmqServer first(right);
  wait_until_replicated();
  EXPECT_THAT(ends_with(options(false), second), HasSubstr("it replicates another server already"));
}

TEST_F(Replica, MustBeReachableWhenItsPrimaryStarts) {
  ZmqServer::Options alone = options(false);
  alone.replica = "tcp://127.0.0.1:9";
  alone.connect_timeout = 300ms;
  ZmqServer server(alone);
  EXPECT_THAT(message_of<CommError>([&] {
                for (int i = 0; i < 30; ++i) server.wait_until_over(100ms);
              }),
              HasSubstr("the replica of server 0 of 1 at tcp://127.0.0.1:9 does not reply within "
                        "0.3 s; is `trireme serve --standby` running there?"));
}

TEST_F(Replica, NeedsWorkersThatKnowItsAddress) {
  EXPECT_THAT(
      message_of<UsageError>(
          [] { server::connect_servers({.addresses = {"tcp://127.0.0.1:9"}, .replicas = 1}); }),
      HasSubstr("the addresses of all servers are wanted and then those of their replicas"));
  EXPECT_THAT(message_of<UsageError>([] {
                server::connect_servers({.addresses = {"tcp://127.0.0.1:9"}, .replicas = 2});
              }),
              HasSubstr("0 or 1 replicas, got 2"));
  server::ServersOptions nobody{.addresses = {"tcp://127.0.0.1:9", "tcp://127.0.0.1:10"},
                                .replicas = 1,
                                .connect_timeout = 100ms};
  EXPECT_THAT(message_of<CommError>(
                  [&] { server::connect_servers(nobody)->join(schema(Mode::kAsynchronous, 1)); }),
              testing::AllOf(HasSubstr("no server replies at tcp://127.0.0.1:9"),
                             HasSubstr("nor does its replica reply")));
}

}  // namespace
}  // namespace trireme::test
