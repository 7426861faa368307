#include "tests/comm/ranks.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <thread>

#include "tests/comm/in_process.h"
#include "trireme/base/error.h"
#include "trireme/comm/hierarchical/hierarchical.h"

namespace trireme::test {

namespace {

bool is_of_a_victim(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const CommError&) {
    return true;
  } catch (...) {
    return false;
  }
}

void rethrow_root_cause(const std::vector<std::exception_ptr>& errors) {
  std::exception_ptr cause;
  for (const std::exception_ptr& error : errors) {
    if (error && (!cause || (is_of_a_victim(cause) && !is_of_a_victim(error)))) cause = error;
  }
  if (cause) std::rethrow_exception(cause);
}

std::string read_all(int fd) {
  std::string text;
  char bytes[4096];
  for (ssize_t n = 0; (n = read(fd, bytes, sizeof(bytes))) > 0;) text.append(bytes, n);
  return text;
}

std::string reason_of(int status) {
  return WIFSIGNALED(status) ? fmt::format("killed by signal {}", WTERMSIG(status))
                             : fmt::format("ended with status {}", WEXITSTATUS(status));
}

}  // namespace

void be_rank_process(const std::function<void()>& body, int report) {
  std::string error;
  try {
    body();
  } catch (const std::exception& caught) {
    error = caught.what();
  }
  if (error.empty() && testing::Test::HasFailure()) {
    const auto& result = *testing::UnitTest::GetInstance()->current_test_info()->result();
    for (int i = 0; i < result.total_part_count(); ++i) {
      if (result.GetTestPartResult(i).failed()) error += result.GetTestPartResult(i).message();
    }
  }
  // The text fits into a pipe, because it is read only after this process has ended.
  error.resize(std::min<std::size_t>(error.size(), 4096));
  const bool written = write(report, error.data(), error.size()) >= 0;
  _exit(error.empty() && written ? 0 : 1);
}

void run_threads(int ranks, const std::function<void(int rank)>& body) {
  std::vector<std::exception_ptr> errors(ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        body(rank);
      } catch (...) {
        errors[rank] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  rethrow_root_cause(errors);
}

void run_ranks(int ranks, const RankFunction& body, shm::Options options) {
  shm::World world = shm::World::create(ranks, options);
  run_threads(ranks, [&](int rank) { body(*world.join(rank)); });
}

void run_ranks_over_messages(int ranks, const RankFunction& body, message::Options options) {
  Network network(ranks);
  run_threads(ranks,
              [&](int rank) { body(*message::Group::world(network.transport(rank), options)); });
}

void run_ranks_on_hosts(int ranks, const std::function<int(int rank)>& host_of,
                        const RankFunction& body, message::Options options) {
  Network network(ranks);
  run_threads(ranks, [&](int rank) {
    body(
        *hierarchical(network.transport(rank), options, static_cast<std::uint64_t>(host_of(rank))));
  });
}

std::vector<RankEnd> run_rank_processes(int ranks, const RankFunction& body, shm::Options options) {
  shm::World world = shm::World::create(ranks, options);
  std::vector<pid_t> processes(ranks);
  std::vector<int> reports(ranks);
  for (int rank = 0; rank < ranks; ++rank) {
    int report[2];
    if (pipe(report) != 0) throw std::runtime_error("pipe failed");
    processes[rank] = fork();
    if (processes[rank] == 0) {
      be_rank_process([&] { body(*world.join(rank)); }, report[1]);
    }
    close(report[1]);
    reports[rank] = report[0];
  }
  std::vector<RankEnd> ends(ranks);
  for (int left = ranks; left > 0; --left) {
    int status = 0;
    const pid_t process = waitpid(-1, &status, 0);
    for (int rank = 0; rank < ranks; ++rank) {
      if (processes[rank] != process) continue;
      ends[rank].status = status;
      ends[rank].error = read_all(reports[rank]);
      // With an error it has left of its own accord.
      if (status != 0 && ends[rank].error.empty()) world.mark_lost(rank, reason_of(status));
      close(reports[rank]);
    }
  }
  return ends;
}

void expect_all_well(const std::vector<RankEnd>& ends) {
  for (std::size_t rank = 0; rank < ends.size(); ++rank) {
    EXPECT_EQ(ends[rank].status, 0)
        << "rank " << rank << " " << reason_of(ends[rank].status) << ": " << ends[rank].error;
  }
}

}  // namespace trireme::test
