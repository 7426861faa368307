#pragma once

#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "tests/comm/ranks.h"
#include "trireme/comm/self/self.h"

namespace trireme::test {

enum class Backend { kSelf, kThreads, kProcesses, kMessages, kOneHost, kTwoHosts };

/// The suites that every communicator must pass, over backends and numbers of ranks.
class OnEveryBackend : public testing::TestWithParam<std::tuple<Backend, int>> {
 protected:
  static int ranks() { return std::get<1>(GetParam()); }
  // Two and two of four ranks; of three, two and one.
  static int host_of(int rank) { return rank < (ranks() + 1) / 2 ? 0 : 1; }

  /// Must ranks `a` and `b` see each other's allocated memory?
  static bool share_memory(int a, int b) {
    const Backend backend = std::get<0>(GetParam());
    if (backend == Backend::kTwoHosts) return a == b || (ranks() > 2 && host_of(a) == host_of(b));
    return a == b || backend != Backend::kMessages;
  }

  static void run(const RankFunction& body) {
    switch (std::get<0>(GetParam())) {
      case Backend::kSelf:
        body(*self_communicator());
        return;
      case Backend::kThreads:
        run_ranks(ranks(), body);
        return;
      case Backend::kProcesses:
        expect_all_well(run_rank_processes(ranks(), body));
        return;
      case Backend::kMessages:
        run_ranks_over_messages(ranks(), body);
        return;
      case Backend::kOneHost:
        run_ranks_on_hosts(
            ranks(), [](int) { return 7; }, body);
        return;
      case Backend::kTwoHosts:
        run_ranks_on_hosts(ranks(), host_of, body);
        return;
    }
  }
};

inline std::string backend_name(const testing::TestParamInfo<std::tuple<Backend, int>>& info) {
  const char* const names[] = {"Self", "Threads", "Processes", "Messages", "OneHost", "TwoHosts"};
  return names[static_cast<int>(std::get<0>(info.param))] + std::to_string(std::get<1>(info.param));
}

#define TRIREME_ON_EVERY_BACKEND(Suite)                                                            \
  INSTANTIATE_TEST_SUITE_P(Alone, Suite, testing::Values(std::tuple(Backend::kSelf, 1)),           \
                           backend_name);                                                          \
  INSTANTIATE_TEST_SUITE_P(                                                                        \
      Ranks, Suite,                                                                                \
      testing::Combine(testing::Values(Backend::kThreads, Backend::kProcesses, Backend::kMessages, \
                                       Backend::kOneHost, Backend::kTwoHosts),                     \
                       testing::Values(1, 2, 3, 4)),                                               \
      backend_name)

}  // namespace trireme::test
