// Connections that break, workers and servers that die.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <functional>
#include <memory>
#include <random>
#include <thread>

#include "tests/comm/message_of.h"
#include "tests/comm/ranks.h"
#include "tests/server/proxy.h"
#include "tests/server/zmq_servers.h"
#include "trireme/base/error.h"

namespace trireme::test {
namespace {

using namespace std::chrono_literals;
using server::Consistency;
using server::Gradient;
using server::ModelSchema;
using server::TableValues;
using testing::HasSubstr;
using Mode = Consistency::Mode;

ModelSchema schema(std::int64_t count, Mode mode, int workers) {
  return {.dense = {{"w", count}}, .consistency = {.mode = mode, .workers = workers}};
}

template <class Condition>
bool comes_true(Condition condition) {
  for (int i = 0; i < 2000 && !condition(); ++i) std::this_thread::sleep_for(10ms);
  return condition();
}

/// `proxies[i]` in front of server i.
std::vector<std::string> through(const std::vector<std::unique_ptr<Proxy>>& proxies) {
  std::vector<std::string> addresses;
  for (const auto& proxy : proxies) addresses.push_back(proxy->endpoint());
  return addresses;
}

// Replies are sent although ZeroMQ may believe that its queue is full: a reply that is not is
// requested again, but only after a long time.
TEST(ManySmallRequests, AreRepliedToAtOnce) {
  constexpr int kWorkers = 3;
  constexpr int kSteps = 10'000;
  ZmqServers servers(1, true);
  run_threads(kWorkers, [&](int worker) {
    server::ServersOptions options = servers.options(worker);
    options.timeout = 20s;
    options.retry_after = 60s;
    const auto client = server::connect_servers(options);
    client->join(schema(4, Mode::kAsynchronous, kWorkers));
    std::vector<float> values(4);
    const TableValues wanted{.table = "w", .values = buffer_of<float>(values)};
    if (worker == 0) client->store({&wanted, 1});
    const Gradient push{.table = "w", .values = buffer_of<float>(values)};
    client->pull({&wanted, 1});
    for (int i = 0; i < kSteps; ++i) client->push_pull({&push, 1}, {.lr = 0}, {&wanted, 1});
    client->leave();
  });
}

class BadNetwork : public testing::TestWithParam<std::tuple<Mode, bool>> {};

// Small payloads, and large ones, which are sent without a copy.
TEST_P(BadNetwork, LosesNoPushAndRepeatsNone) {
  const auto [mode, keys] = GetParam();
  constexpr int kWorkers = 3;
  constexpr int kSteps = 30;
  constexpr std::int64_t kCount = 100'000;
  ZmqServers servers(2, keys);
  std::vector<std::unique_ptr<Proxy>> proxies;
  std::mt19937 random(7);
  for (int shard = 0; shard < 2; ++shard) {
    proxies.push_back(std::make_unique<Proxy>(servers[shard].endpoint(), [&](int) {
      return Proxy::Plan{.bytes = static_cast<std::int64_t>(random() % 3'000'000)};
    }));
  }
  run_threads(kWorkers, [&](int worker) {
    server::ServersOptions options = servers.options(worker);
    options.addresses = through(proxies);
    const auto client = server::connect_servers(options);
    client->join(schema(kCount, mode, kWorkers));
    std::vector<float> values(kCount);
    const std::vector<TableValues> wanted = {{"w", buffer_of(std::span(values))}};
    if (worker == 0) client->store(wanted);
    client->pull(wanted);
    std::vector<float> gradient(kCount, -1.0F);
    for (int step = 0; step < kSteps; ++step) {
      client->push_pull(std::vector<Gradient>{{"w", buffer_of(std::span(gradient))}},
                        {.lr = mode == Mode::kSynchronous ? 3.0 : 1.0}, wanted);
      ASSERT_EQ(client->clock(), step + 1);
    }
    // Until all pushes have been applied.
    for (int i = 0; i < 2000 && client->fetch(wanted) < (mode == Mode::kSynchronous ? 30 : 90);
         ++i) {
      std::this_thread::sleep_for(5ms);
    }
    ASSERT_THAT(values, testing::Each(3.0F * kSteps));
  });
  EXPECT_GT(proxies[0]->connections(), kWorkers + 5) << "too good a network";
}

std::string network_name(const testing::TestParamInfo<std::tuple<Mode, bool>>& info) {
  const char* const modes[] = {"Synchronous", "Bounded", "Asynchronous"};
  return std::string(modes[static_cast<int>(std::get<0>(info.param))]) +
         (std::get<1>(info.param) ? "WithKeys" : "");
}

INSTANTIATE_TEST_SUITE_P(Modes, BadNetwork,
                         testing::Combine(testing::Values(Mode::kSynchronous, Mode::kBounded,
                                                          Mode::kAsynchronous),
                                          testing::Bool()),
                         network_name);

/// A worker in a process of its own, forked before there is any thread.
class WorkerProcess {
 public:
  explicit WorkerProcess(const std::function<void(const std::string& address)>& body) {
    std::array<int, 2> pipe{};
    if (::pipe(pipe.data()) != 0) std::abort();
    pid_ = ::fork();
    if (pid_ == 0) {
      std::string address(64, '\0');
      const ssize_t got = ::read(pipe[0], address.data(), address.size());
      address.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
      try {
        body(address);
      } catch (...) {
        ::_exit(1);
      }
      ::_exit(0);
    }
    ::close(pipe[0]);
    pipe_ = pipe[1];
  }
  ~WorkerProcess() {
    kill();
    ::close(pipe_);
  }

  void tell(const std::string& address) const {
    ASSERT_EQ(::write(pipe_, address.data(), address.size()), static_cast<ssize_t>(address.size()));
  }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_;
  int pipe_;
};

TEST(WorkerKilled, WhileItPushesLeavesNoPartOfThePush) {
  constexpr std::int64_t kCount = 4 << 20;
  const ModelSchema model = schema(kCount, Mode::kBounded, 2);
  WorkerProcess victim([&](const std::string& address) {
    const auto client = server::connect_servers({.addresses = {address}, .worker = 1});
    client->join(model);
    std::vector<float> gradient(kCount, 1.0F);
    client->push(std::vector<Gradient>{{"w", buffer_of(std::span(gradient))}}, {.lr = 1});
  });
  ZmqServers servers(1, false,
                     [](server::ZmqServer::Options& options) { options.gone_after = 1s; });
  auto proxy = std::make_unique<Proxy>(servers[0].endpoint(), [](int) {
    return Proxy::Plan{9'000'000, Proxy::Fate::kStalls};
  });
  const auto client = server::connect_servers(servers.options(0));
  client->join(model);
  std::vector<float> values(kCount, 5.0F);
  const std::vector<TableValues> wanted = {{"w", buffer_of(std::span(values))}};
  client->store(wanted);
  victim.tell(proxy->endpoint());
  ASSERT_TRUE(comes_true([&] { return proxy->stalled() == 1; }));
  victim.kill();
  proxy.reset();
  // The bound does not wait for a lost worker.
  std::vector<float> gradient(kCount, -1.0F);
  for (int step = 0; step < 3; ++step) {
    client->push_pull(std::vector<Gradient>{{"w", buffer_of(std::span(gradient))}}, {.lr = 1},
                      wanted);
  }
  EXPECT_THAT(values, testing::Each(8.0F));
  EXPECT_EQ(servers[0].counts().version, 3);
}

TEST(WorkerKilled, IsNamedInTheErrorsOfTheOtherWorkers) {
  const ModelSchema model = schema(64, Mode::kSynchronous, 2);
  WorkerProcess victim([&](const std::string& address) {
    const auto client = server::connect_servers({.addresses = {address}, .worker = 1});
    client->join(model);
    std::this_thread::sleep_for(1min);
  });
  ZmqServers servers(1, false,
                     [](server::ZmqServer::Options& options) { options.gone_after = 1s; });
  victim.tell(servers[0].endpoint());
  const auto client = server::connect_servers(servers.options(0));
  client->join(model);
  std::vector<float> values(64);
  client->store(std::vector<TableValues>{{"w", buffer_of(std::span(values))}});
  ASSERT_TRUE(comes_true([&] { return servers[0].counts().requests >= 3; }));
  victim.kill();
  EXPECT_THAT(message_of<CommError>([&] {
                client->push(std::vector<Gradient>{{"w", buffer_of(std::span(values))}}, {.lr = 1});
              }),
              HasSubstr("worker 1 is lost: its connection has closed"));
}

TEST(WorkerKilled, RejoinsAndGetsTheCurrentState) {
  const ModelSchema model = schema(64, Mode::kAsynchronous, 2);
  WorkerProcess victim([&](const std::string& address) {
    const auto client = server::connect_servers({.addresses = {address}, .worker = 1});
    client->join(model);
    std::this_thread::sleep_for(1min);
  });
  ZmqServers servers(1, false);
  victim.tell(servers[0].endpoint());
  const auto client = server::connect_servers(servers.options(0));
  client->join(model);
  std::vector<float> values(64);
  client->store(std::vector<TableValues>{{"w", buffer_of(std::span(values))}});
  victim.kill();
  std::vector<float> gradient(64, -1.0F);
  for (int step = 0; step < 5; ++step) {
    client->push(std::vector<Gradient>{{"w", buffer_of(std::span(gradient))}}, {.lr = 1});
  }
  const auto again = server::connect_servers(servers.options(1));
  again->join(model);
  std::vector<float> seen(64);
  again->pull(std::vector<TableValues>{{"w", buffer_of(std::span(seen))}});
  EXPECT_THAT(seen, testing::Each(5.0F));
}

TEST(Worker, ThatComputesForLongIsNotLost) {
  const ModelSchema model = schema(64, Mode::kBounded, 1);
  ZmqServers servers(1, false,
                     [](server::ZmqServer::Options& options) { options.dead_after = 3s; });
  const auto client = server::connect_servers(servers.options(0));
  client->join(model);
  std::vector<float> values(64);
  client->store(std::vector<TableValues>{{"w", buffer_of(std::span(values))}});
  std::this_thread::sleep_for(5s);
  client->pull(std::vector<TableValues>{{"w", buffer_of(std::span(values))}});
}

TEST(Worker, NamesWhatTheServerWaitsForAfterATimeout) {
  ZmqServers servers(1, false);
  server::ServersOptions options = servers.options(0);
  options.timeout = 3s;
  const auto client = server::connect_servers(options);
  client->join(schema(64, Mode::kSynchronous, 2));
  std::vector<float> values(64);
  client->store(std::vector<TableValues>{{"w", buffer_of(std::span(values))}});
  EXPECT_THAT(message_of<CommError>([&] {
                client->push(std::vector<Gradient>{{"w", buffer_of(std::span(values))}}, {.lr = 1});
              }),
              testing::AllOf(HasSubstr("did not reply to push of worker 0 within 3 s"),
                             HasSubstr("worker 1, which has not joined")));
}

TEST(Worker, RepeatsARequestWithoutAReply) {
  ZmqServers servers(1, false);
  server::ServersOptions options = servers.options(0);
  options.retry_after = 100ms;
  const auto client = server::connect_servers(options);
  const ModelSchema model = schema(64, Mode::kSynchronous, 2);
  client->join(model);
  std::vector<float> values(64);
  client->store(std::vector<TableValues>{{"w", buffer_of(std::span(values))}});
  std::thread late([&] {
    const auto other = server::connect_servers(servers.options(1));
    other->join(model);
    std::this_thread::sleep_for(1500ms);
    std::vector<float> gradient(64, -2.0F);
    other->push(std::vector<Gradient>{{"w", buffer_of(std::span(gradient))}}, {.lr = 1});
  });
  std::vector<float> gradient(64, -4.0F);
  const std::int64_t before = servers[0].counts().requests;
  client->push_pull(std::vector<Gradient>{{"w", buffer_of(std::span(gradient))}}, {.lr = 1},
                    std::vector<TableValues>{{"w", buffer_of(std::span(values))}});
  EXPECT_THAT(values, testing::Each(3.0F)) << "the mean, once";
  EXPECT_GT(servers[0].counts().requests, before + 3);
  late.join();
}

// Every push adds the same to all elements on all servers: a consistent snapshot has one number.
TEST(Fetch, TakesConsistentSnapshotsUnderLoad) {
  for (const Mode mode : {Mode::kSynchronous, Mode::kBounded, Mode::kAsynchronous}) {
    constexpr int kWorkers = 3;
    constexpr std::int64_t kCount = 64 * 16;
    ModelSchema model = schema(kCount, mode, kWorkers);
    model.consistency.staleness = 3;
    ZmqServers servers(3, false);
    std::atomic<int> seen = 0;
    std::atomic<int> cuts = 0;
    std::atomic<int> steps = 20'000;
    run_threads(kWorkers + 1, [&](int worker) {
      std::vector<float> values(kCount);
      const std::vector<TableValues> wanted = {{"w", buffer_of(std::span(values))}};
      const auto client = server::connect_servers(servers.options(worker));
      if (worker < kWorkers) {
        client->join(model);
        if (worker == 0) client->store(wanted);
        client->pull(wanted);
        std::vector<float> gradient(kCount, -1.0F);
        // Synchronous workers take the same steps: the last one is announced long before.
        for (int step = 0; step < steps; ++step) {
          if (worker == 0 && cuts == 30 && steps > step + 100) steps = step + 100;
          client->push_pull(std::vector<Gradient>{{"w", buffer_of(std::span(gradient))}}, {.lr = 1},
                            wanted);
        }
        return;
      }
      for (int i = 0; i < 2000; ++i) {
        try {
          client->observe();
          if (client->fetch(wanted) > 0) break;
        } catch (const UsageError&) {  // no worker has stored parameters yet
        }
        std::this_thread::sleep_for(5ms);
      }
      float last = 0;
      for (cuts = 0; cuts < 30; ++cuts) {
        const std::int64_t version = client->fetch_snapshot(wanted);
        ASSERT_THAT(values, testing::Each(values[0]));
        ASSERT_EQ(values[0], static_cast<float>(version));
        ASSERT_GE(values[0], last);
        seen += values[0] > last ? 1 : 0;
        last = values[0];
      }
    });
    EXPECT_GT(seen, 5) << "there was no load";
  }
}

TEST(Fetch, DelaysWorkersOnlyBrieflyWhenItDies) {
  ZmqServers servers(2, false);
  const auto client = server::connect_servers(servers.options(0));
  client->join(schema(64, Mode::kAsynchronous, 1));
  std::vector<float> values(64);
  const std::vector<TableValues> wanted = {{"w", buffer_of(std::span(values))}};
  client->store(wanted);
  {
    const auto looker = server::connect_servers(servers.options(0));
    looker->observe();
    looker->pause();
  }
  std::vector<float> gradient(64, -1.0F);
  client->push_pull(std::vector<Gradient>{{"w", buffer_of(std::span(gradient))}}, {.lr = 1},
                    wanted);
  EXPECT_THAT(values, testing::Each(1.0F));
}

TEST(ServerKilled, IsNamedWithTheCommandToContinue) {
  ZmqServers servers(2, true);
  server::ServersOptions options = servers.options(0);
  options.lost_after = 500ms;
  const auto client = server::connect_servers(options);
  client->join(schema(64, Mode::kAsynchronous, 1));
  std::vector<float> values(64);
  const std::vector<TableValues> wanted = {{"w", buffer_of(std::span(values))}};
  client->store(wanted);
  servers.stop(1);
  EXPECT_THAT(message_of<CommError>([&] { client->pull(wanted); }),
              testing::AllOf(HasSubstr("server 1 of 2 at tcp://127.0.0.1:"), HasSubstr("is lost"),
                             HasSubstr("trireme serve --restore")));
}

}  // namespace
}  // namespace trireme::test
