#pragma once

#include <functional>
#include <string>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/comm/message/group.h"
#include "trireme/comm/shm/world.h"

namespace trireme::test {

using RankFunction = std::function<void(Communicator&)>;

/// Runs `body` on `ranks` threads, each a rank of one world, and rethrows the root cause of a
/// failure: the first exception that is not the CommError of a victim, or else the first one.
void run_ranks(int ranks, const RankFunction& body, shm::Options options = {});

/// The same over a Network of messages instead of shared memory.
void run_ranks_over_messages(int ranks, const RankFunction& body, message::Options options = {});

/// The same with ranks that share memory where `host_of(rank)` is the same.
void run_ranks_on_hosts(int ranks, const std::function<int(int rank)>& host_of,
                        const RankFunction& body, message::Options options = {});

/// Runs `body(rank)` on `ranks` threads and rethrows the root cause as above.
void run_threads(int ranks, const std::function<void(int rank)>& body);

/// How one rank process ended.
struct RankEnd {
  int status = 0;     ///< as of waitpid
  std::string error;  ///< what() of the exception that ended it, and failed expectations
};

/// The same with forked processes. A process that dies is marked lost, as a launcher does.
std::vector<RankEnd> run_rank_processes(int ranks, const RankFunction& body,
                                        shm::Options options = {});

/// Ends this process, a rank of the running test, once `body` has: what it threw, or which of its
/// expectations failed, goes to the pipe `report`, at most what a pipe holds.
[[noreturn]] void be_rank_process(const std::function<void()>& body, int report);

/// Fails the running test for each rank that did not end well.
void expect_all_well(const std::vector<RankEnd>& ends);

}  // namespace trireme::test
