#include "tests/world/rank_processes.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>

#include "tests/comm/ranks.h"
#include "trireme/base/file_descriptor.h"

namespace trireme::test {

namespace {

constexpr int kSeconds = 180;  // also under sanitizers on a busy machine

}  // namespace

RankProcesses::RankProcesses(int count, const std::function<void(int)>& body) : ranks_(count) {
  for (int rank = 0; rank < count; ++rank) {
    int report[2];
    if (pipe(report) != 0) throw std::runtime_error("pipe failed");
    const pid_t process = fork();
    if (process == 0) {
      alarm(kSeconds);
      be_rank_process([&] { body(rank); }, report[1]);
    }
    close(report[1]);
    ranks_[rank].process = process;
    ranks_[rank].report = report[0];
  }
}

RankProcesses::~RankProcesses() {
  for (const Rank& rank : ranks_) {
    if (!rank.has_ended) {
      kill(rank.process, SIGKILL);
      waitpid(rank.process, nullptr, 0);
    }
    close(rank.report);
  }
}

std::string RankProcesses::error_of(int number) {
  Rank& rank = ranks_.at(number);
  if (rank.has_ended) return rank.error;
  // Readable when there is an error, or when it has ended and closed its end.
  pollfd event{rank.report, POLLIN, 0};
  if (poll(&event, 1, (kSeconds + 5) * 1000) != 1) kill(rank.process, SIGKILL);
  char bytes[4096];
  for (ssize_t n = 0; (n = read(rank.report, bytes, sizeof(bytes))) > 0;) {
    rank.error.append(bytes, static_cast<std::size_t>(n));
  }
  int status = 0;
  waitpid(rank.process, &status, 0);
  rank.has_ended = true;
  if (WIFSIGNALED(status)) rank.error += fmt::format("killed by signal {}", WTERMSIG(status));
  return rank.error;
}

void RankProcesses::expect_all_well() {
  for (int rank = 0; rank < static_cast<int>(ranks_.size()); ++rank) {
    EXPECT_EQ(error_of(rank), "") << "rank " << rank;
  }
}

}  // namespace trireme::test
