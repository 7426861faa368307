#include "trireme/launch/launcher.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>
#include <thread>

#include "tests/base/memory_files.h"
#include "tests/formats/error_of.h"
#include "tests/launch/launched.h"
#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/comm/shm/world.h"
#include "trireme/launch/environment.h"
#include "trireme/launch/exit_codes.h"

namespace trireme {
namespace {

using test::becomes_true;
using test::Capture;
using test::LauncherProcess;
using test::MemoryFiles;
using test::Notes;
using test::Orphanage;
using test::SharedBetweenProcesses;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int kVictim = static_cast<int>(ExitCode::kPeerLost);

LaunchOptions with_ranks(int ranks) {
  LaunchOptions options;
  options.ranks = ranks;
  return options;
}

// Output is captured, not shown among the test's own.
class Launcher : public testing::Test {
 protected:
  LaunchOptions options(int ranks) const {
    LaunchOptions options = with_ranks(ranks);
    options.stdout_fd = out_.fd();
    options.stderr_fd = err_.fd();
    return options;
  }

  std::filesystem::path folder() {
    if (folder_.empty()) {
      std::string name = (std::filesystem::temp_directory_path() / "launcher_XXXXXX").string();
      folder_ = mkdtemp(name.data());
    }
    return folder_;
  }

  void TearDown() override {
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }

  Capture out_;
  Capture err_;
  SharedBetweenProcesses<Notes> notes_;

 private:
  std::filesystem::path folder_;
};

[[noreturn]] void wait_for_a_signal() {
  while (true) pause();
}

TEST_F(Launcher, RunsEachRankAndSharesItsWorld) {
  for (const int ranks : {1, 2, 3, 8}) {
    SCOPED_TRACE(ranks);
    const ExitReport report = launch(options(ranks), [&](int rank, int fd) {
      const auto world = shm::World::open(fd).join(rank);
      std::int64_t sum = rank + 1;
      for (int i = 0; i < 10; ++i) {
        sum = rank + 1;
        world->all_reduce({&sum, 1, DType::kI64}).wait();
      }
      return sum == ranks * (ranks + 1) / 2 ? 0 : 9;
    });
    EXPECT_TRUE(report.ok()) << report.explanation;
    EXPECT_EQ(report.failed_rank, -1);
    EXPECT_EQ(static_cast<int>(report.ranks.size()), ranks);
  }
}

TEST_F(Launcher, ARankFindsItselfInTheEnvironment) {
  const ExitReport report = launch(options(3), [](int rank, int fd) {
    const RankEnvironment told = read_environment();
    const bool right = told.rank == rank && told.world_size == 3 && told.local_rank == rank &&
                       told.local_world_size == 3 && told.world_fd == fd;
    return right ? 0 : 9;
  });
  EXPECT_TRUE(report.ok()) << report.explanation;
}

TEST_F(Launcher, TheRanksOfOneHostShareASecretAndAJobOfTheirOwn) {
  for (int start = 0; start < 2; ++start) {
    LaunchOptions three = options(3);
    three.world.timeout = std::chrono::milliseconds(2500);
    const ExitReport report = launch(three, [](int, int fd) {
      const RankEnvironment told = read_environment();
      const auto world = shm::World::open(fd).join(told.rank);
      if (!told.secret.is_given() || told.job.empty()) return 9;
      if (told.timeout != std::chrono::seconds(3)) return 10;
      // Rank 0's secret and job, beside those of this rank.
      std::string mine = told.secret.hex() + told.job;
      mine.resize(128);
      std::string first = mine;
      world->broadcast({first.data(), 128, DType::kU8}, 0).wait();
      return first == mine ? 0 : 11;
    });
    EXPECT_TRUE(report.ok()) << report.explanation;
  }
}

// Restores the limit at the end.
class FewFiles {
 public:
  explicit FewFiles(rlim_t more) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const FileDescriptor next(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const rlimit few{static_cast<rlim_t>(next.fd()) + more, before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &few);
  }
  ~FewFiles() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_;
};

TEST_F(Launcher, NamesTheLimitOfOpenFiles) {
  for (const rlim_t more : {1, 2, 4, 8, 16}) {
    // UndefinedBehaviorSanitizer needs files of its own to look at the error.
    const std::string error = error_of<UsageError>([&] {
      const FewFiles limit(more);
      launch(options(30), [](int, int) { return 0; });
    });
    EXPECT_THAT(error, HasSubstr("Too many open files; raise the limit of open files (ulimit -n)"));
  }
}

TEST_F(Launcher, AnExceptionEndsInTheExitCodeOfItsKindAndItsMessage) {
  const ExitReport report = launch(options(2), [](int rank, int) -> int {
    if (rank == 1) throw DataError("train.csv: row 7 is short");
    return 0;
  });
  EXPECT_EQ(report.failed_rank, 1);
  EXPECT_EQ(report.exit_code, 3);
  EXPECT_EQ(report.explanation, "exit code 3");
  EXPECT_THAT(report.last_lines, ElementsAre("train.csv: row 7 is short"));
  EXPECT_EQ(err_.text(), "[rank 1] train.csv: row 7 is short\n");
}

TEST_F(Launcher, TheRanksOfASecondHostHaveTheNumbersOfTheWorld) {
  LaunchOptions second = options(2);
  second.hosts = {.count = 3, .index = 1, .master_address = "127.0.0.1", .master_port = 1};
  const ExitReport report = launch(second, [](int rank, int) -> int {
    if (rank == 1) throw UsageError("not so");
    return 0;
  });
  EXPECT_EQ(report.first_rank + report.failed_rank, 3);
  EXPECT_EQ(report.world_size, 6);
  EXPECT_THAT(err_.text(), HasSubstr("[rank 3] "));
}

TEST_F(Launcher, ARankThatEndsWithoutLeavingEndsTheCallsThatNeedIt) {
  const ExitReport report = launch(options(3), [](int rank, int fd) {
    auto world = shm::World::open(fd).join(rank);
    world->barrier();
    if (rank == 2) {
      world.release();
      return 0;
    }
    world->barrier();
    return 0;
  });
  EXPECT_EQ(report.exit_code, kVictim);
  EXPECT_NE(report.failed_rank, 2);
  EXPECT_THAT(report.last_lines,
              ElementsAre(testing::AllOf(
                  testing::StartsWith("rank 2 has ended before barrier() at launcher_test.cpp:"),
                  testing::EndsWith(", without destroying its communicator"))));
}

TEST_F(Launcher, ARankThatEndsWithoutLeavingDoesNotDisturbThoseWhoDoNotNeedIt) {
  const ExitReport report = launch(options(3), [](int rank, int fd) {
    auto world = shm::World::open(fd).join(rank);
    world->barrier();
    if (rank == 2) {
      world.release();
      return 0;
    }
    // Rank 1 waits so that the test can inspect it.
    if (rank == 0) std::this_thread::sleep_for(std::chrono::milliseconds(300));
    int x = rank;
    if (rank == 0) world->send({&x, 1, DType::kI32}, 1).wait();
    if (rank == 1) world->recv({&x, 1, DType::kI32}, 0).wait();
    return x;
  });
  EXPECT_TRUE(report.ok()) << report.explanation;
}

TEST_F(Launcher, ARankKilledInABarrierEndsTheOthersInCommErrorsThatNameIt) {
  for (const int ranks : {2, 3, 8}) {
    SCOPED_TRACE(ranks);
    SharedBetweenProcesses<Notes> notes;
    const int doomed = ranks / 2;
    const ExitReport report = launch(options(ranks), [&](int rank, int fd) {
      const auto world = shm::World::open(fd).join(rank);
      world->barrier();
      notes->pid[rank] = getpid();
      if (rank == doomed) {
        if (!becomes_true([&] { return notes->ready(ranks); })) return 9;
        raise(SIGKILL);
      }
      try {
        world->barrier();
      } catch (const CommError& error) {
        notes->lost_rank[rank] = 1 + error.lost_rank();
        throw;
      }
      return 0;
    });
    EXPECT_EQ(report.failed_rank, doomed);
    EXPECT_EQ(report.status, ExitStatus::killed(SIGKILL));
    EXPECT_EQ(report.exit_code, 137);
    EXPECT_EQ(report.explanation, "killed by SIGKILL, often the out-of-memory killer or kill -9");
    for (int rank = 0; rank < ranks; ++rank) {
      if (rank == doomed) continue;
      EXPECT_EQ(report.ranks[rank], ExitStatus::exited(kVictim)) << rank;
      EXPECT_EQ(notes->lost_rank[rank], 1 + doomed) << rank;
    }
  }
}

TEST_F(Launcher, KillsRanksThatDoNotCareForTheLoss) {
  const ExitReport report = launch(options(3), [&](int rank, int) {
    if (rank == 1) signal(SIGTERM, SIG_IGN);
    notes_->pid[rank] = getpid();
    if (rank != 0) wait_for_a_signal();
    return becomes_true([&] { return notes_->ready(3); }) ? 7 : 9;
  });
  EXPECT_EQ(report.failed_rank, 0);
  EXPECT_EQ(report.exit_code, 7);
  EXPECT_EQ(report.ranks[1], ExitStatus::killed(SIGKILL));
  EXPECT_EQ(report.ranks[2], ExitStatus::killed(SIGTERM));
}

/// A clock that advances by an hour at each call.
class HastyClock final : public Clock {
 public:
  Time now() const override { return time_ += std::chrono::hours(1); }

 private:
  mutable Time time_;
};

TEST_F(Launcher, MeasuresItsDeadlinesByTheClockThatIsPassedIn) {
  LaunchOptions hasty = options(3);
  HastyClock clock;
  hasty.clock = &clock;
  hasty.ending = {.grace = std::chrono::hours(1), .kill_after = std::chrono::hours(1)};
  const ExitReport report = launch(hasty, [&](int rank, int) {
    if (rank == 1) signal(SIGTERM, SIG_IGN);
    notes_->pid[rank] = getpid();
    if (rank != 0) wait_for_a_signal();
    return becomes_true([&] { return notes_->ready(3); }) ? 7 : 9;
  });
  EXPECT_EQ(report.ranks[1], ExitStatus::killed(SIGKILL));
  EXPECT_EQ(report.ranks[2], ExitStatus::killed(SIGTERM));
}

TEST_F(Launcher, ARankThatIsDoneEarlyDoesNotDisturbTheOthers) {
  const ExitReport report = launch(options(3), [&](int rank, int fd) {
    const auto world = shm::World::open(fd).join(rank);
    world->barrier();
    notes_->pid[rank] = getpid();
    if (rank == 2) return 0;
    // The process no longer exists: the launcher has waited for it.
    const pid_t early =
        becomes_true([&] { return notes_->pid[2] != 0; }) ? notes_->pid[2].load() : 0;
    if (!becomes_true([&] { return kill(early, 0) != 0; })) return 9;
    std::int64_t value = rank == 0 ? 5 : 0;
    const Buffer x{&value, 1, DType::kI64};
    (rank == 0 ? world->send(x, 1) : world->recv(x, 0)).wait();
    return value == 5 ? 0 : 9;
  });
  EXPECT_TRUE(report.ok()) << report.explanation << '\n' << err_.text();
}

TEST_F(Launcher, WhatARankStartedEndsWithIt) {
  Orphanage orphanage;
  const ExitReport report = launch(options(1), [&](int rank, int) {
    const pid_t child = fork();
    if (child == 0) wait_for_a_signal();
    notes_->grandchild[rank] = child;
    return 0;
  });
  EXPECT_TRUE(report.ok());
  EXPECT_TRUE(orphanage.sees_the_end_of(notes_->grandchild[0]));
}

TEST_F(Launcher, ShowsRankZerosOutputAsItIsAndTheOthersLinesBehindTheirRank) {
  const ExitReport report = launch(options(3), [](int rank, int) {
    std::cout << "out of " << rank << "\nno end of line";
    std::cerr << "err of " << rank << '\n';
    return 0;
  });
  EXPECT_TRUE(report.ok());
  const std::string out = out_.text();
  EXPECT_THAT(out, HasSubstr("out of 0\nno end of line"));
  for (const char* rank : {"1", "2"}) {
    EXPECT_THAT(out, HasSubstr(std::string("[rank ") + rank + "] out of " + rank + "\n"));
    EXPECT_THAT(out, HasSubstr(std::string("[rank ") + rank + "] no end of line\n"));
    EXPECT_THAT(err_.text(), HasSubstr(std::string("[rank ") + rank + "] err of " + rank + "\n"));
  }
  EXPECT_THAT(err_.text(), testing::Not(HasSubstr("[rank 0]")));
}

TEST_F(Launcher, LosesNoLineOfARankThatDies) {
  constexpr int kLines = 20'000;
  const ExitReport report = launch(options(2), [&](int rank, int) {
    if (rank == 0) return 0;
    for (int i = 0; i < kLines; ++i) fprintf(stderr, "line %d\n", i);
    raise(SIGKILL);
    return 0;
  });
  EXPECT_EQ(report.failed_rank, 1);
  std::string expected;
  for (int i = 0; i < kLines; ++i) expected += "[rank 1] line " + std::to_string(i) + "\n";
  EXPECT_TRUE(err_.text() == expected)
      << "the last of it:\n"
      << err_.text().substr(err_.text().size() - std::min<std::size_t>(err_.text().size(), 500));
  ASSERT_EQ(report.last_lines.size(), 20u);
  EXPECT_EQ(report.last_lines.back(), "line 19999");
}

TEST_F(Launcher, WritesTheOthersOutputToLogFiles) {
  LaunchOptions logged = options(3);
  logged.log_directory = folder() / "run" / "logs";
  const ExitReport report = launch(logged, [](int rank, int) {
    std::cout << "out of " << rank << std::endl;
    std::cerr << "err of " << rank << '\n';
    return rank == 2 ? 5 : 0;
  });
  EXPECT_EQ(out_.text(), "out of 0\n");
  EXPECT_EQ(err_.text(), "err of 0\n");
  EXPECT_THAT(read_file(logged.log_directory / "rank-1.log"), HasSubstr("out of 1\n"));
  EXPECT_THAT(read_file(logged.log_directory / "rank-2.log"), HasSubstr("err of 2\n"));
  EXPECT_EQ(report.log, (logged.log_directory / "rank-2.log").string());
  EXPECT_THAT(report.last_lines, ElementsAre("err of 2"));
}

TEST_F(Launcher, NamesALogFileThatCannotBeOpened) {
  LaunchOptions logged = options(2);
  write_file_atomically(folder() / "logs", "a file, no folder");
  logged.log_directory = folder() / "logs";
  try {
    launch(logged, [](int, int) { return 0; });
    FAIL() << "no error";
  } catch (const DataError& error) {
    EXPECT_EQ(std::string(error.what()),
              logged.log_directory.string() + ": cannot create: File exists");
  }
}

TEST_F(Launcher, PassesTheOutputOnIfTheDiskOfTheLogsIsFull) {
  MemoryFiles files;
  LaunchOptions logged = options(2);
  logged.log_directory = "run/logs";
  logged.files = &files;
  files.limit_space(3);
  const ExitReport report = launch(logged, [](int rank, int) {
    std::cerr << "err of " << rank << '\n';
    return 0;
  });
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(read_file("run/logs/rank-1.log", files), "err");
  EXPECT_THAT(err_.text(), HasSubstr("run/logs/rank-1.log: cannot write: No space left on device; "
                                     "its output goes on here\nerr of 1\n"));
}

TEST_F(Launcher, StartsNoRankIfTheLogsCannotBeCreated) {
  LaunchOptions logged = options(2);
  logged.log_directory = "run/logs";
  for (int operation = 0;; ++operation) {
    MemoryFiles files;
    logged.files = &files;
    files.fail_at(operation, EACCES);
    try {
      launch(logged, [](int, int) { return 0; });
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), HasSubstr("Permission denied"));
      EXPECT_TRUE(files.clear_fault());
      continue;
    }
    EXPECT_FALSE(files.clear_fault());
    EXPECT_GT(operation, 3);
    break;
  }
}

TEST_F(Launcher, RanksReadAnEmptyStdin) {
  const ExitReport report =
      launch(options(1), [](int, int) { return std::cin.get() == EOF ? 0 : 9; });
  EXPECT_TRUE(report.ok());
}

TEST_F(Launcher, PinsEachRankToItsOwnCores) {
  const int ranks = static_cast<int>(cores_of_affinity().size());
  if (ranks > Notes::kMaxRanks) GTEST_SKIP() << "more cores than this test has room for";
  LaunchOptions pinned = options(ranks);
  pinned.pin_to_cores = true;
  const ExitReport report = launch(pinned, [&](int rank, int) {
    notes_->pid[rank] = 1 + cores_of_affinity().front();
    return cores_of_affinity().size() == 1 ? 0 : 9;
  });
  EXPECT_TRUE(report.ok());
  std::set<int> cores;
  for (int rank = 0; rank < ranks; ++rank) cores.insert(notes_->pid[rank]);
  EXPECT_EQ(static_cast<int>(cores.size()), ranks);
}

TEST_F(Launcher, PinsNothingWhereThereAreMoreRanksThanCores) {
  const std::size_t cores = cores_of_affinity().size();
  LaunchOptions pinned = options(static_cast<int>(cores) + 1);
  pinned.pin_to_cores = true;
  const ExitReport report =
      launch(pinned, [&](int, int) { return cores_of_affinity().size() == cores ? 0 : 9; });
  EXPECT_TRUE(report.ok());
}

TEST_F(Launcher, RefusesNoRanks) {
  for (const int ranks : {0, -1}) {
    EXPECT_THROW(launch(options(ranks), [](int, int) { return 0; }), UsageError);
  }
}

// Ranks that count SIGINT and end at the second one.
std::atomic<int> interrupts{0};
void count_interrupt(int) {
  ++interrupts;
}

TEST_F(Launcher, CtrlCAsksEveryRankToStopAndLetsItSave) {
  LauncherProcess launcher([&] {
    const ExitReport report = launch(options(3), [&](int rank, int) {
      signal(SIGINT, count_interrupt);
      notes_->pid[rank] = getpid();
      if (!becomes_true([] { return interrupts != 0; })) return 9;
      notes_->signals[rank] = interrupts.load();
      // Saving takes longer than the grace after a failure.
      std::this_thread::sleep_for(std::chrono::milliseconds(1200));
      return rank == 0 ? 0 : static_cast<int>(ExitCode::kInterrupted);
    });
    notes_->failed_rank = report.failed_rank;
    notes_->exit_code = report.exit_code;
  });
  ASSERT_TRUE(becomes_true([&] { return notes_->ready(3); }));
  launcher.signal(SIGINT);
  ASSERT_TRUE(launcher.wait());
  for (int rank = 0; rank < 3; ++rank) EXPECT_EQ(notes_->signals[rank], 1);
  EXPECT_EQ(notes_->failed_rank, -1);
  EXPECT_EQ(notes_->exit_code, 130);
}

TEST_F(Launcher, ASecondCtrlCEndsRanksThatIgnoreTheFirst) {
  LauncherProcess launcher([&] {
    const ExitReport report = launch(options(2), [&](int rank, int) -> int {
      signal(SIGINT, count_interrupt);
      notes_->pid[rank] = getpid();
      if (!becomes_true([] { return interrupts != 0; })) return 9;
      notes_->signals[rank] = 1;
      wait_for_a_signal();
    });
    notes_->failed_rank = report.failed_rank;
    notes_->exit_code = report.exit_code;
  });
  ASSERT_TRUE(becomes_true([&] { return notes_->ready(2); }));
  launcher.signal(SIGINT);
  ASSERT_TRUE(becomes_true([&] { return notes_->signals[0] == 1 && notes_->signals[1] == 1; }));
  launcher.signal(SIGINT);
  ASSERT_TRUE(launcher.wait());
  EXPECT_EQ(notes_->failed_rank, -1);
  EXPECT_EQ(notes_->exit_code, 130);
}

// Of /proc: 'R' and 'S' run, 'T' is stopped.
char state_of(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string number, name;
  char state = '?';
  stat >> number >> name >> state;
  return state;
}

TEST_F(Launcher, CtrlZStopsTheRanksAndTheyGoOnWithTheLauncher) {
  LauncherProcess launcher([&] {
    notes_->grandchild[0] = getpid();
    ::setpgid(0, 0);  // as a shell starts a job
    const ExitReport report = launch(options(2), [&](int rank, int) -> int {
      notes_->pid[rank] = getpid();
      wait_for_a_signal();
    });
    notes_->exit_code = report.exit_code;
  });
  ASSERT_TRUE(becomes_true([&] { return notes_->ready(2); }));
  const auto all_are = [&](bool stopped) {
    for (const pid_t pid :
         {notes_->pid[0].load(), notes_->pid[1].load(), notes_->grandchild[0].load()}) {
      if ((state_of(pid) == 'T') != stopped) return false;
    }
    return true;
  };
  for (int round = 0; round < 2; ++round) {
    launcher.signal(SIGTSTP);
    EXPECT_TRUE(becomes_true([&] { return all_are(true); }));
    launcher.signal(SIGCONT);
    EXPECT_TRUE(becomes_true([&] { return all_are(false); }));
  }
  launcher.signal(SIGTERM);
  ASSERT_TRUE(launcher.wait());
  EXPECT_EQ(notes_->exit_code, 128 + SIGTERM);
}

TEST_F(Launcher, AHangupEndsRanksUnlessItIsIgnored) {
  for (const bool nohup : {false, true}) {
    for (auto& pid : notes_->pid) pid = 0;
    LauncherProcess launcher([&] {
      ::signal(SIGHUP, nohup ? SIG_IGN : SIG_DFL);
      const ExitReport report = launch(options(2), [&](int rank, int) -> int {
        notes_->pid[rank] = getpid();
        wait_for_a_signal();
      });
      notes_->exit_code = report.exit_code;
    });
    ASSERT_TRUE(becomes_true([&] { return notes_->ready(2); }));
    launcher.signal(SIGHUP);
    if (nohup) {
      ::kill(notes_->pid[1], SIGHUP);  // a rank that takes it is named as the one that has failed
      launcher.signal(SIGQUIT);
    }
    ASSERT_TRUE(launcher.wait());
    EXPECT_EQ(notes_->exit_code, 128 + (nohup ? SIGQUIT : SIGHUP));
  }
}

TEST_F(Launcher, RanksAreCountedOverAllHosts) {
  LaunchOptions second = options(2);
  second.hosts = {.count = 3, .index = 1, .master_address = "127.0.0.1"};
  const ExitReport report = launch(second, [](int rank, int) { return rank == 1 ? 9 : 0; });
  EXPECT_EQ(report.first_rank + report.failed_rank, 3);
  EXPECT_EQ(report.world_size, 6);
}

std::set<std::string> shared_memory_names() {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
    if (entry.path().string().find("trireme") != std::string::npos) names.insert(entry.path());
  }
  return names;
}

TEST_F(Launcher, NothingIsLeftWhenTheLauncherIsKilled) {
  Orphanage orphanage;
  const std::set<std::string> names_before = shared_memory_names();
  LauncherProcess launcher([&] {
    setenv("TMPDIR", folder().c_str(), 1);
    launch(options(3), [&](int rank, int fd) {
      const auto world = shm::World::open(fd).join(rank);
      const Memory memory = world->allocate(1 << 20);
      for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(signal, SIG_IGN);
      notes_->pid[rank] = getpid();
      // Rank 0 never calls it, so the others wait.
      if (rank == 0) wait_for_a_signal();
      world->barrier();
      return 0;
    });
  });
  ASSERT_TRUE(becomes_true([&] { return notes_->ready(3); }));
  launcher.signal(SIGKILL);
  ASSERT_TRUE(launcher.wait());
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_TRUE(orphanage.sees_the_end_of(notes_->pid[rank])) << "rank " << rank;
  }
  EXPECT_EQ(shared_memory_names(), names_before);
  EXPECT_TRUE(std::filesystem::is_empty(folder()));
}

// The program of rank_program.cpp.
std::vector<std::string> program(const std::string& task) {
  return {TRIREME_RANK_PROGRAM, task};
}

TEST_F(Launcher, StartsAProgramWithTorchrunsVariables) {
  setenv("OF_THE_TEST", "passed on", 1);
  unsetenv("OMP_NUM_THREADS");
  const ExitReport report = launch(options(2), program("variables"));
  EXPECT_TRUE(report.ok()) << report.explanation;
  for (const std::string prefix : {"", "[rank 1] "}) {
    const std::string rank = prefix.empty() ? "0" : "1";
    const int threads = std::max(1, usable_cores() / 2);
    for (const std::string& line :
         {"RANK=" + rank, std::string("WORLD_SIZE=2"), "LOCAL_RANK=" + rank,
          std::string("LOCAL_WORLD_SIZE=2"), std::string("MASTER_ADDR=127.0.0.1"),
          "OMP_NUM_THREADS=" + std::to_string(threads), std::string("OF_THE_TEST=passed on")}) {
      EXPECT_THAT("\n" + out_.text(), HasSubstr("\n" + prefix + line + "\n"));
    }
  }
  EXPECT_THAT(out_.text(), testing::Not(HasSubstr("MASTER_PORT=(not set)")));
}

TEST_F(Launcher, KeepsAChosenNumberOfThreads) {
  setenv("OMP_NUM_THREADS", "7", 1);
  launch(options(1), program("variables"));
  unsetenv("OMP_NUM_THREADS");
  EXPECT_THAT(out_.text(), HasSubstr("OMP_NUM_THREADS=7\n"));
}

TEST_F(Launcher, PassesArgumentsOnAsTheyAre) {
  std::vector<std::string> command = program("arguments");
  command.insert(command.end(), {"two words", "", "--n=3", "$HOME *"});
  EXPECT_TRUE(launch(options(1), command).ok());
  EXPECT_EQ(out_.text(), "two words\n\n--n=3\n$HOME *\n");
}

TEST_F(Launcher, HandsProgramsTheirSharedWorld) {
  const ExitReport report = launch(options(8), program("sum"));
  EXPECT_TRUE(report.ok()) << report.explanation << '\n' << err_.text();
  EXPECT_THAT(out_.text(), HasSubstr("sum 36\n"));
  EXPECT_THAT(out_.text(), HasSubstr("[rank 7] sum 36\n"));
}

TEST_F(Launcher, NamesTheProgramThatCrashedWithItsLastLines) {
  const ExitReport report = launch(options(3), program("lose"));
  EXPECT_EQ(report.failed_rank, 2) << err_.text();
  EXPECT_EQ(report.exit_code, 134);
  EXPECT_THAT(report.explanation, HasSubstr("killed by SIGABRT"));
  EXPECT_THAT(report.last_lines, Contains("I am about to crash"));
  EXPECT_EQ(report.ranks[0], ExitStatus::exited(kVictim));
  EXPECT_EQ(report.ranks[1], ExitStatus::exited(kVictim));
}

std::string error_of_starting(const std::vector<std::string>& command) {
  try {
    launch(with_ranks(2), command);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST_F(Launcher, NamesAProgramThatCannotBeStartedAndWhy) {
  EXPECT_EQ(error_of_starting({"./no_such_program"}),
            "run: cannot start \"./no_such_program\": No such file or directory");
  EXPECT_EQ(error_of_starting({"/"}), "run: cannot start \"/\": Permission denied");
  EXPECT_EQ(error_of_starting({}), "run: a program to start is missing");
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
}

TEST_F(Launcher, AProgramInThisFolderNeedsItsDot) {
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder());
  write_file_atomically("my_program", "");
  EXPECT_EQ(error_of_starting({"my_program"}),
            "run: cannot start \"my_program\": No such file or directory; to run the one in this "
            "folder say ./my_program");
  std::filesystem::current_path(before);
}

}  // namespace
}  // namespace trireme
