#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/comm/ranks.h"
#include "trireme/base/error.h"

namespace trireme::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

/// Rank processes that no launcher watches, as under mpirun. Every rank, also the first, opens the
/// world that the test has made through /proc.
class UnsupervisedRanks {
 public:
  explicit UnsupervisedRanks(int ranks)
      : world_(shm::World::create(ranks, {.watched_by = shm::WatchedBy::kRanks})) {}

  /// What each rank's `body` threw; empty if it returned.
  std::vector<std::string> run(const std::function<void(std::unique_ptr<Communicator>)>& body) {
    const pid_t holder = getpid();
    std::vector<int> reports;
    std::vector<pid_t> processes;
    for (int rank = 0; rank < world_.size(); ++rank) {
      int report[2];
      if (pipe2(report, O_CLOEXEC) != 0) throw std::runtime_error("pipe failed");
      processes.push_back(fork());
      if (processes.back() == 0) {
        alarm(60);
        be_rank(shm::World::open_of(holder, world_.fd()), rank, body, report[1]);
      }
      close(report[1]);
      reports.push_back(report[0]);
    }
    for (const pid_t process : processes) waitpid(process, nullptr, 0);
    std::vector<std::string> errors;
    for (const int report : reports) {
      char text[1000];
      const ssize_t bytes = read(report, text, sizeof text);
      errors.emplace_back(text, bytes > 0 ? bytes : 0);
      close(report);
    }
    return errors;
  }

 private:
  [[noreturn]] static void be_rank(shm::World world, int rank,
                                   const std::function<void(std::unique_ptr<Communicator>)>& body,
                                   int report) {
    std::string error;
    try {
      body(world.join(rank));
    } catch (const std::exception& caught) {
      error = caught.what();
    }
    _exit(write(report, error.data(), error.size()) >= 0 ? 0 : 1);
  }

  shm::World world_;
};

TEST(RanksThatWatchEachOther, NameTheOneThatWasKilled) {
  for (const int ranks : {2, 3}) {
    UnsupervisedRanks processes(ranks);
    const auto errors = processes.run([](std::unique_ptr<Communicator> world) {
      std::vector<float> x(100'000, 1);
      for (int i = 0;; ++i) {
        if (world->rank() == 1 && i == 20) kill(getpid(), SIGKILL);
        world->all_reduce(buffer_of<float>(x), ReduceOp::kMax).wait();
      }
    });
    for (int rank = 0; rank < ranks; ++rank) {
      EXPECT_EQ(errors[rank], rank == 1 ? "" : "rank 1 is lost: its process has ended");
    }
  }
}

TEST(RanksThatWatchEachOther, NameTheOneThatWasKilledBeforeTheyJoined) {
  UnsupervisedRanks processes(3);
  const auto errors = processes.run([](std::unique_ptr<Communicator> world) {
    if (world->rank() == 2) kill(getpid(), SIGKILL);
    std::this_thread::sleep_for(50ms);
    world->barrier();
  });
  EXPECT_EQ(errors[0], "rank 2 is lost: its process has ended");
  EXPECT_EQ(errors[1], "rank 2 is lost: its process has ended");
}

TEST(RanksThatWatchEachOther, GoOnWithoutOneThatHasLeft) {
  UnsupervisedRanks processes(3);
  const auto errors = processes.run([](std::unique_ptr<Communicator> world) {
    world->barrier();
    if (world->rank() == 2) return;
    // Rank 1 waits long enough to look around.
    if (world->rank() == 0) std::this_thread::sleep_for(300ms);
    int x = 7;
    if (world->rank() == 0) world->send({&x, 1, DType::kI32}, 1).wait();
    if (world->rank() == 1) world->recv({&x, 1, DType::kI32}, 0).wait();
  });
  EXPECT_THAT(errors, testing::Each(""));
}

TEST(RanksThatWatchEachOther, AreNotAlarmedByOneThatIsStopped) {
  UnsupervisedRanks processes(2);
  const auto errors = processes.run([](std::unique_ptr<Communicator> world) {
    world->barrier();
    if (world->rank() == 1) {
      const pid_t self = getpid();
      if (fork() == 0) {
        std::this_thread::sleep_for(300ms);
        kill(self, SIGCONT);
        _exit(0);
      }
      kill(self, SIGSTOP);
    }
    world->barrier();
  });
  EXPECT_THAT(errors, testing::Each(""));
}

TEST(RanksThatWatchEachOther, AreThreadsOfOneProcessAsWell) {
  run_ranks(3, [](Communicator& world) { world.barrier(); },
            {.watched_by = shm::WatchedBy::kRanks});
}

TEST(World, IsOpenedOutOfAnotherProcess) {
  const shm::World world = shm::World::create(3);
  EXPECT_EQ(shm::World::open_of(getpid(), world.fd()).size(), 3);
  try {
    shm::World::open_of(getpid(), 987);
    FAIL() << "nothing was thrown";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("must be running on this host and hold a world as "
                                        "descriptor 987"));
  }
}

// A process that must not be traced does not show its descriptors to other users.
TEST(World, IsNotOpenedOutOfAProcessThatTheSystemHides) {
  if (getuid() != 0) GTEST_SKIP() << "only root may become somebody else";
  const shm::World world = shm::World::create(2);
  const pid_t holder = getpid();
  const pid_t child = fork();
  if (child == 0) {
    if (setuid(65534) != 0) _exit(1);
    try {
      shm::World::open_of(holder, world.fd());
    } catch (const CommError& error) {
      _exit(std::string(error.what()).find("must run as the same user") != std::string::npos ? 42
                                                                                             : 2);
    } catch (...) {
    }
    _exit(3);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 42);
}

}  // namespace
}  // namespace trireme::test
