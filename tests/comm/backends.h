#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "tests/comm/engine.h"
#include "tests/comm/rank_counts.h"
#include "tests/comm/ranks.h"
#include "tests/comm/thread_sanitizer.h"
#include "trireme/comm/self/self.h"

namespace trireme::test {

enum class Backend { kSelf, kThreads, kProcesses, kMessages, kOneHost, kTwoHosts, kEngine };

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
    if (backend == Backend::kEngine) return a == b || engine_of_program()->shares_memory;
    return a == b || backend != Backend::kMessages;
  }

  /// The number of a communicator's first collective, where that is the first of its operations.
  static int first_operation() {
    return 1 + (engine_of_program() ? engine_of_program()->meetings : 0);
  }

  /// How errors name the memory of a call.
  static std::string memory() {
    return engine_of_program() ? engine_of_program()->memory : std::string();
  }

  /// Returns true if ranks share memory that was mapped before run(), which ranks of another
  /// launcher do not.
  static bool share_mappings() {
    return std::get<0>(GetParam()) != Backend::kEngine || engine_of_program()->forks;
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
      case Backend::kEngine:
        engine_of_program()->run(ranks(), body);
        return;
    }
  }
};

inline std::string backend_name(const testing::TestParamInfo<std::tuple<Backend, int>>& info) {
  const auto [backend, ranks] = info.param;
  const char* const names[] = {"Self", "Threads", "Processes", "Messages", "OneHost", "TwoHosts"};
  return (backend == Backend::kEngine ? engine_of_program()->name
                                      : names[static_cast<int>(backend)]) +
         std::to_string(ranks);
}

/// The numbers of ranks that a backend is tested with, unless TRIREME_TEST_RANKS is set: threads
/// with every number, the others with an odd and an even one. Two hosts need three ranks for two of
/// them to share memory.
inline std::vector<int> usual_rank_counts(Backend backend) {
  switch (backend) {
    case Backend::kSelf:
      return {1};
    case Backend::kThreads:
      return {1, 2, 3, 4};
    case Backend::kMessages:
      return {1, 2, 3};
    case Backend::kOneHost:
      return {3};
    case Backend::kTwoHosts:
      return {3, 4};
    case Backend::kProcesses:
    case Backend::kEngine:
      break;
  }
  return {2, 3};
}

/// Returns each of `backends` with its numbers of ranks, from `fewest` on. In a program that has an
/// engine, the engine is the only backend.
inline std::vector<std::tuple<Backend, int>> on(std::vector<Backend> backends, int fewest = 1) {
  const Engine* const engine = engine_of_program();
  if (engine != nullptr) backends = {Backend::kEngine};
  std::vector<std::tuple<Backend, int>> all;
  for (const Backend backend : backends) {
    for (const int ranks : rank_counts(usual_rank_counts(backend))) {
      const bool runs = engine == nullptr || std::ranges::count(engine->rank_counts, ranks) > 0;
      const bool is_self_alone = backend != Backend::kSelf || ranks == 1;
      if (runs && is_self_alone && ranks >= fewest) all.emplace_back(backend, ranks);
    }
  }
  return all;
}

#define TRIREME_ON_EVERY_BACKEND(Suite)                                                   \
  INSTANTIATE_TEST_SUITE_P(                                                               \
      Ranks, Suite,                                                                       \
      testing::ValuesIn(on({Backend::kSelf, Backend::kThreads, Backend::kProcesses,       \
                            Backend::kMessages, Backend::kOneHost, Backend::kTwoHosts})), \
      backend_name)

}  // namespace trireme::test
