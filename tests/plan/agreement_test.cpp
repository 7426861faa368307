#include "trireme/plan/agreement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <set>

#include "tests/comm/ranks.h"
#include "trireme/base/error.h"

namespace trireme::plan {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using Words = std::vector<std::string>;

// The errors of all ranks; rank r has the words of_rank[r].
std::set<std::string> errors_of(const std::vector<Words>& of_rank) {
  std::set<std::string> errors;
  std::mutex mutex;
  test::run_ranks(static_cast<int>(of_rank.size()), [&](Communicator& world) {
    const Words& words = of_rank[static_cast<std::size_t>(world.rank())];
    try {
      require_same_configuration(parse_config("", "run.toml", words), world);
    } catch (const UsageError& error) {
      const std::lock_guard lock(mutex);
      errors.insert(error.what());
    }
    world.barrier();  // the communicator goes on
  });
  return errors;
}

TEST(Agreement, IsSilentWhereAllIsEqual) {
  for (const int ranks : {1, 2, 3, 4}) {
    EXPECT_THAT(errors_of(std::vector<Words>(ranks, {"optimizer.lr=0.3"})), IsEmpty()) << ranks;
  }
}

// Each of these trained another model on each rank.
TEST(Agreement, NamesTheKeyAndBothValuesOnEveryRank) {
  for (const auto& [word, name, value] :
       {std::tuple{"optimizer.lr=0.05", "optimizer.lr is 0.01", "0.05"},
        std::tuple{"training.seed=7", "training.seed is 1", "7"},
        std::tuple{"training.global_batch=32", "training.global_batch is 64", "32"},
        std::tuple{"optimizer.name=adam", "optimizer.name is 'sgd'", "'adam'"},
        std::tuple{"data.sampler=block", "data.sampler is 'random'", "'block'"},
        std::tuple{"evaluation.batch=7", "evaluation.batch is ", "7"},
        std::tuple{"checkpoint.every_steps=3", "checkpoint.every_steps is 0", "3"},
        std::tuple{"training.clip_norm=1", "training.clip_norm is 0.0", "1.0"}}) {
    for (int ranks = 2; ranks <= 4; ++ranks) {
      std::vector<Words> of_rank(ranks);
      of_rank.back() = {word};
      EXPECT_THAT(errors_of(of_rank),
                  ElementsAre(testing::AllOf(
                      HasSubstr(name), HasSubstr(" on rank 0 and "),
                      HasSubstr(std::string(value) + " on rank " + std::to_string(ranks - 1)))))
          << word;
    }
  }
}

TEST(Agreement, SaysHowManyRanksDiffer) {
  EXPECT_THAT(errors_of({{"optimizer.lr=0.1"}, {}, {"training.steps=5"}}),
              ElementsAre(testing::AllOf(
                  HasSubstr("optimizer.lr is 0.1 on rank 0 and 0.01 on rank 1 (2 ranks differ)"),
                  HasSubstr("training.steps is 0 on rank 0 and 5 on rank 2;"))));
}

TEST(Agreement, NamesNoKeyThatFollowsFromAnother) {
  EXPECT_THAT(
      errors_of({{"optimizer.name=adam"}, {"optimizer.name=sgd"}}),
      ElementsAre(HasSubstr("configuration: optimizer.name is 'adam' on rank 0 and 'sgd' on "
                            "rank 1; start each")));
}

TEST(Agreement, LetsHostsHavePathsAndThreadsOfTheirOwn) {
  const Words csv = {"data.format=csv", "data.target=y"};
  Words other = csv, first = csv;
  first.insert(first.end(), {"data.path=/a/t.csv", "training.threads=1", "run.directory=x"});
  other.insert(other.end(), {"data.path=/b/t.csv", "training.threads=2", "run.directory=y",
                             "communication.interface=10.0.0.2", "data.prefetch_steps=0"});
  EXPECT_THAT(errors_of({first, other}), IsEmpty());
}

}  // namespace
}  // namespace trireme::plan
