// Every operation that a sharded step makes, with every fault that it can have: each must show in
// what the step has computed, or end it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <iostream>
#include <memory>
#include <mutex>
#include <set>

#include "tests/parallel/faulty_ranks.h"
#include "tests/parallel/sharded_run.h"
#include "trireme/base/error.h"
#include "trireme/parallel/sharded.h"

namespace trireme::test {
namespace {

constexpr int kSteps = 2;

struct Way {
  const char* name;
  ShardingOptions sharding;
  ShardedCase run;
  std::size_t faulty_rank = 1;
};

const Way kWays[] = {
    {"stage_1", {.stage = 1}, {.ranks = 2, .virtual_workers = 2}},
    {"stage_2_between_hosts",
     {.stage = 2},
     {.ranks = 2, .world = World::kHostsOfOne, .virtual_workers = 2}},
    {"stage_3_between_hosts",
     {.stage = 3},
     {.ranks = 2, .world = World::kHostsOfOne, .virtual_workers = 2}},
    {"stage_2_within_hosts",
     {.stage = 2, .within_host = true},
     {.ranks = 4, .world = World::kHostsOfTwo, .virtual_workers = 4},
     // Of the second host the one that has the small parameters.
     2},
};

/// A run in which one rank has faults.
class FaultyRun {
 public:
  explicit FaultyRun(const Way& way) : way_(way) {}

  /// Returns what it finds, or throws what a rank throws.
  TrainedSteps train(const std::string& operation, Fault fault) {
    std::vector<std::unique_ptr<Communicator>> worlds(static_cast<std::size_t>(way_.run.ranks));
    std::vector<Faults> faults(worlds.size());
    faults[way_.faulty_rank].plan(operation, fault);
    const auto keep_seen = [&] {
      seen_ = faults[way_.faulty_rank].seen();
      has_changed_ = faults[way_.faulty_rank].has_changed();
    };
    try {
      TrainedSteps found = train_with(
          [&](Communicator& world) {
            auto& own = worlds[static_cast<std::size_t>(world.rank())];
            own = faulty(world, faults[static_cast<std::size_t>(world.rank())]);
            return sharded(*own, way_.sharding,
                           {.virtual_workers = way_.run.virtual_workers, .bucket_bytes = 20'000});
          },
          way_.run, kSteps);
      keep_seen();
      return found;
    } catch (...) {
      keep_seen();
      throw;
    }
  }

  const std::map<std::string, Call>& seen() const { return seen_; }
  bool has_changed() const { return has_changed_; }

 private:
  Way way_;
  std::map<std::string, Call> seen_;
  bool has_changed_ = false;
};

class Mutations : public testing::TestWithParam<Way> {};

TEST_P(Mutations, AreAllCaught) {
  ShardedCase alone = GetParam().run;
  const TrainedSteps expected = train_replicated(alone, kSteps);
  FaultyRun dry(GetParam());
  ASSERT_TRUE(is_same(dry.train("", Fault::kNone), expected));
  const std::map<std::string, Call> operations = dry.seen();
  ASSERT_GT(operations.size(), 4U);
  int made = 0;
  int without_effect = 0;
  std::vector<std::string> missed;
  for (const auto& [name, call] : operations) {
    for (const Fault fault : faults_of(call)) {
      FaultyRun run(GetParam());
      bool is_caught = false;
      try {
        is_caught = !is_same(run.train(name, fault), expected);
      } catch (const std::exception&) {
        is_caught = true;
      }
      // Twice nothing is nothing: the same program, and no fault.
      if (!run.has_changed()) {
        ++without_effect;
        EXPECT_FALSE(is_caught) << name << ": " << name_of(fault);
        continue;
      }
      ++made;
      if (!is_caught) missed.push_back(fmt::format("{}: {}", name, name_of(fault)));
    }
  }
  std::cout << fmt::format("{}: {} faults in {} operations, {} caught; {} more change nothing\n",
                           GetParam().name, made, operations.size(),
                           made - static_cast<int>(missed.size()), without_effect);
  EXPECT_GT(made, 20);
  for (const std::string& one : missed) ADD_FAILURE() << "not caught: " << one;
}

INSTANTIATE_TEST_SUITE_P(Sharded, Mutations, testing::ValuesIn(kWays),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace trireme::test
