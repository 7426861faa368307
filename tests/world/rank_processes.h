#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace trireme::test {

/// Ranks as forked processes. Fork them before a thread of libtorch is started.
///
///     RankProcesses ranks(3, [](int rank) { ... throws or fails expectations ... });
///     ranks.expect_all_well();
///
/// None outlives the object, nor a minute.
class RankProcesses {
 public:
  RankProcesses(int count, const std::function<void(int rank)>& body);
  ~RankProcesses();
  RankProcesses(const RankProcesses&) = delete;
  RankProcesses& operator=(const RankProcesses&) = delete;

  pid_t process(int rank) const { return ranks_.at(rank).process; }

  /// Waits for the end of one and returns what() of the exception that ended it, its failed
  /// expectations, "killed by signal 9", or nothing.
  std::string error_of(int rank);

  /// Fails the running test for each that did not end well.
  void expect_all_well();

 private:
  struct Rank {
    pid_t process = -1;
    int report = -1;
    bool has_ended = false;
    std::string error;
  };
  std::vector<Rank> ranks_;
};

}  // namespace trireme::test
