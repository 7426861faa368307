// A range test gives a trainer back every bit, finds the same curve on any number of ranks, and
// ends on all ranks together.

#include "trireme/train/range_test.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "tests/comm/ranks.h"
#include "tests/train/runs.h"
#include "tests/train/samples.h"
#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/plan/resolve.h"

namespace trireme::test {
namespace {

using plan::LossCurve;
using testing::HasSubstr;
using testing::ThrowsMessage;

const RangeTestOptions kOptions{.range = {.from = 1e-4, .to = 1, .steps = 10}, .repeats = 2};

// Ranks that share memory, or that are hosts of their own.
void on_ranks(int ranks, bool hosts, const RankFunction& body) {
  hosts ? run_ranks_over_messages(ranks, body) : run_ranks(ranks, body);
}

void append(const Buffer& values, std::string& bytes) {
  bytes.append(static_cast<const char*>(values.data), values.bytes());
}

// All that a rank has between two steps.
std::string bits_of(Trainer& trainer) {
  std::string bits = fmt::format("{} {} {}|", trainer.steps_done(), trainer.skipped_steps().in_all,
                                 trainer.skipped_steps().in_a_row);
  if (const auto& scale = trainer.loss_scale()) {
    bits += fmt::format("{} {}|", scale->state().scale, scale->state().steps);
  }
  for (const Shard& shard : trainer.strategy().shards()) append(shard.values, bits);
  for (const StateTensor& state : trainer.optimizer().state()) append(state.values, bits);
  for (const StateTensor& state : trainer.strategy().state()) append(state.values, bits);
  const NamedTensors tensors = trainer.model().tensors();
  for (const auto& [name, tensor] : tensors.buffers) append(host_buffer_of(tensor), bits);
  if (!trainer.strategy().holds_parameters()) return bits;
  for (const auto& [name, tensor] : tensors.parameters) append(host_buffer_of(tensor), bits);
  return bits;
}

bool are_equal(const std::vector<LossCurve>& a, const std::vector<LossCurve>& b) {
  const auto same_point = [](const LossCurve::Point& one, const LossCurve::Point& other) {
    return one.lr == other.lr && one.loss == other.loss;
  };
  return std::ranges::equal(a, b, [&](const LossCurve& one, const LossCurve& other) {
    return one.first_loss == other.first_loss && one.not_finite_after == other.not_finite_after &&
           std::ranges::equal(one.points, other.points, same_point);
  });
}

struct Way {
  const char* name;
  Words words;
  bool hosts = false;
  bool has_buffers = false;  // of batch normalization
};

void PrintTo(const Way& way, std::ostream* out) {
  *out << way.name;
}

Words shard(int stage) {
  return {fmt::format("parallelism.shard={}", stage)};
}

Words with_codec(const std::string& codec) {
  return {"model.name=mlp", "model.hidden=[9]", "communication.compression=" + codec};
}

class Restored : public testing::TestWithParam<Way> {
 protected:
  Restored() {
    if (!GetParam().has_buffers) return;
    write_images(runs_.folder().path());
    words_ = words_ + Words{"data.format=idx",
                            "data.images=" + (runs_ / "images").string(),
                            "data.labels=" + (runs_ / "labels").string(),
                            "model.name=cnn",
                            "model.channels=[2]",
                            "model.dropout=0.25"};
  }

  Runs runs_;
  Words words_ = GetParam().words + Words{"training.virtual_workers=4", "training.global_batch=16"};
};

TEST_P(Restored, HasTheBitsOfATrainerThatWasNotTested) {
  const Config config = runs_.config("run", words_);
  for (const int ranks : {1, 3}) {
    on_ranks(ranks, GetParam().hosts && ranks > 1, [&](Communicator& world) {
      const plan::RunPlan plan = plan::resolve(config, world.size());
      Trainer plain(config, plan, world), tested(config, plan, world);
      for (int step = 0; step < 3; ++step) EXPECT_EQ(plain.step().loss, tested.step().loss);
      const std::string before = bits_of(tested);
      const auto curves = range_test(tested, kOptions);
      EXPECT_EQ(curves.size(), 2u);
      EXPECT_EQ(curves.front().points.size(), 9u);
      EXPECT_NE(curves.front().first_loss, curves.back().first_loss) << "other data";
      EXPECT_EQ(bits_of(tested), before);
      for (int step = 0; step < 3; ++step) EXPECT_EQ(plain.step().loss, tested.step().loss);
      EXPECT_EQ(bits_of(tested), bits_of(plain));
    });
  }
  EXPECT_FALSE(std::filesystem::exists(config.run.directory));
}

INSTANTIATE_TEST_SUITE_P(
    RangeTest, Restored,
    testing::Values(Way{"replicated", {}}, Way{"host_shared", strategy(kHostShared)},
                    Way{"host_shared_clipped",
                        strategy(kHostShared) + Words{"training.clip_norm=0.1"}},
                    Way{"batch_norm", {}, false, true}, Way{"stage_1", shard(1)},
                    Way{"stage_2", shard(2), true}, Way{"stage_3", shard(3)},
                    Way{"stage_3_between_hosts", shard(3), true},
                    Way{"stage_3_batch_norm", shard(3), true, true},
                    Way{"f16", {"training.precision=f16", "training.loss_scale=16777216"}},
                    Way{"f16_stage_3", shard(3) + Words{"training.precision=f16"}, true},
                    Way{"int8", with_codec("int8")},
                    Way{"power_sgd", with_codec("power_sgd"), true},
                    Way{"skipping", {"training.on_nonfinite=skip", "optimizer.name=sgd"}}),
    [](const auto& info) { return info.param.name; });

// The curves on each rank.
std::vector<std::vector<LossCurve>> curves_of(const Config& config, int ranks, bool hosts,
                                              const RangeTestOptions& options = kOptions) {
  std::vector<std::vector<LossCurve>> curves(static_cast<std::size_t>(ranks));
  on_ranks(ranks, hosts, [&](Communicator& world) {
    curves[static_cast<std::size_t>(world.rank())] =
        find_learning_rate_curves(config, plan::resolve(config, world.size()), world, options);
  });
  return curves;
}

TEST(LearningRateCurves, HaveTheSameBitsOnAnyNumberOfRanksInEverySynchronousMode) {
  const Runs runs;
  const RangeTestOptions once{.range = kOptions.range, .repeats = 1};
  const auto one = curves_of(runs.config("run"), 1, false, once).front();
  ASSERT_EQ(one.size(), 1u);
  for (const Words& words :
       {Words{}, strategy(kHostShared), strategy(kParameterServer), shard(1), shard(3)}) {
    const bool needs_one_host =
        words.size() == 1 && words.front().find("strategy") != words[0].npos;
    for (const bool hosts : {false, true}) {
      if (hosts && needs_one_host) continue;
      for (const int ranks : {2, 3}) {
        for (const auto& curves : curves_of(runs.config("run", words), ranks, hosts, once)) {
          EXPECT_TRUE(are_equal(curves, one)) << fmt::format("{} ranks", ranks);
        }
      }
    }
  }
}

class LearningRateCurvesOfGroups : public testing::TestWithParam<Words> {};

TEST_P(LearningRateCurvesOfGroups, AreTheSameOnAllRanks) {
  const Runs runs;
  const auto curves = curves_of(runs.config("run", GetParam()), 3, false);
  ASSERT_EQ(curves.front().size(), 2u);
  EXPECT_EQ(curves.front().front().points.size(), 9u);
  for (const auto& of_rank : curves) EXPECT_TRUE(are_equal(of_rank, curves.front()));
}

INSTANTIATE_TEST_SUITE_P(RangeTest, LearningRateCurvesOfGroups,
                         testing::Values(local_sgd(), diloco(), streaming_diloco(),
                                         diloco_in_pairs()));

class LearningRateCurvesWithoutWaiting : public testing::TestWithParam<Words> {};

TEST_P(LearningRateCurvesWithoutWaiting, AreThoseOfEachRank) {
  const Runs runs;
  for (const auto& of_rank : curves_of(runs.config("run", GetParam()), 3, false)) {
    ASSERT_EQ(of_rank.size(), 2u);
    for (const LossCurve& curve : of_rank) EXPECT_EQ(curve.points.size(), 9u);
  }
}

INSTANTIATE_TEST_SUITE_P(RangeTest, LearningRateCurvesWithoutWaiting,
                         testing::Values(asynchronous(), bounded_staleness(), backup_workers()));

// One of 48 samples makes the loss infinite: one rank has it.
TEST(RangeTest, EndsOnAllRanksAfterTheSameStepIfOneDiverges) {
  const Runs runs;
  std::string table = "x,y\n";
  for (int row = 0; row < 48; ++row) table += row == 17 ? "1,1e38\n" : "1,2\n";
  write_file_atomically(runs / "table.csv", table);
  const Words words = {"data.format=csv", "data.target=y",
                       "data.path=" + (runs / "table.csv").string(), "data.holdout=0"};
  for (const Words& mode : {Words{}, Words{"training.on_nonfinite=skip"}, shard(3), local_sgd(),
                            streaming_diloco(), strategy(kParameterServer)}) {
    const auto curves = curves_of(runs.config("run", words + mode), 3, mode == shard(3));
    for (const auto& of_rank : curves) {
      EXPECT_TRUE(are_equal(of_rank, curves.front())) << fmt::format("{}", mode.size());
      // 24 samples a step: the first or the second has it.
      for (const LossCurve& curve : of_rank) EXPECT_LE(curve.points.size(), 1u);
    }
  }
  for (const char* reaction : {"training.on_nonfinite=stop", "training.on_nonfinite=skip"}) {
    const Config config = runs.config("run", words + Words{reaction});
    run_ranks(3, [&](Communicator& world) {
      Trainer trainer(config, plan::resolve(config, world.size()), world);
      const std::string before = bits_of(trainer);
      EXPECT_LE(range_test(trainer, kOptions).front().points.size(), 1u);
      EXPECT_EQ(bits_of(trainer), before) << reaction;
    });
  }
}

// Columns of +-a and +-b in all combinations: the Hessian of the mean of (w x + bias - y)^2 is
// 2 diag(a^2, b^2, 1), and the largest stable rate 1 / max(a^2, b^2, 1).
class LinearRegression : public testing::TestWithParam<std::pair<double, double>> {};

TEST_P(LinearRegression, GetsARateBelowTheEdgeOfDivergence) {
  const auto [a, b] = GetParam();
  const Runs runs;
  std::string table = "x0,x1,y\n";
  for (int row = 0; row < 48; ++row) {
    const double x0 = row % 2 == 0 ? a : -a, x1 = row / 2 % 2 == 0 ? b : -b;
    table += fmt::format("{},{},{}\n", x0, x1, 3 * x0 - 2 * x1 + 1);
  }
  write_file_atomically(runs / "table.csv", table);
  const Config config = runs.config("run", {"data.format=csv", "data.target=y", "data.holdout=0",
                                            "data.path=" + (runs / "table.csv").string(),
                                            "optimizer.name=sgd", "training.global_batch=48"});
  const double stable = 1 / std::max({a * a, b * b, 1.0});
  const auto curves = curves_of(config, 2, false, {.range = {.from = 1e-7, .to = 100}}).front();
  const plan::LearningRateSuggestion found = plan::suggest_learning_rate(curves);
  ASSERT_TRUE(found.lr && found.edge) << found.reason;
  EXPECT_LT(*found.lr, stable);
  EXPECT_GT(*found.lr, stable / 40);
  EXPECT_GT(*found.edge, stable);
  EXPECT_LT(*found.edge, stable * 6.3);
}

INSTANTIATE_TEST_SUITE_P(RangeTest, LinearRegression,
                         testing::Values(std::pair(1.0, 1.0), std::pair(4.0, 2.0),
                                         std::pair(0.25, 8.0)));

TEST(RangeTest, SuggestsARateForTheStepsThatFollow) {
  const Runs runs;
  const Config config = runs.config("run", {"training.steps=200", "optimizer.name=adam"});
  run_ranks(2, [&](Communicator& world) {
    Trainer trainer(config, plan::resolve(config, world.size()), world);
    const auto curves = trireme::range_test(trainer, {.range = {.from = 1e-6, .to = 1}});
    const auto found = trireme::plan::suggest_learning_rate(curves);
    trainer.step({.lr = found.lr});
    EXPECT_TRUE(found.lr) << found.reason;
    EXPECT_EQ(trainer.optimizer().lr(), found.lr);
  });
}

TEST(RangeTest, RefusesWhatItCannotRestoreOrRun) {
  const Runs runs;
  const auto test_of = [&](const Words& words, const RangeTestOptions& options) {
    const Config config = runs.config("run", words);
    run_ranks(2, [&](Communicator& world) {
      Trainer trainer(config, plan::resolve(config, world.size()), world);
      range_test(trainer, options);
    });
  };
  EXPECT_THAT([&] { test_of(local_sgd(), kOptions); },
              ThrowsMessage<UsageError>(HasSubstr("cannot be taken back")));
  EXPECT_THAT([&] { test_of({}, {.range = {.steps = 41}}); },
              ThrowsMessage<UsageError>(HasSubstr("got 41 in a run of 40 steps")));
  EXPECT_THAT([&] { test_of({}, {.repeats = 0}); },
              ThrowsMessage<UsageError>(HasSubstr("repeats must be 1 or more")));
  EXPECT_THAT([&] { test_of({}, {.range = {.from = 1, .to = 1}}); },
              ThrowsMessage<UsageError>(HasSubstr("to a higher one")));
  plan::RunPlan plan;
  plan.data_parallel = plan::ParameterServer{.addresses = {"tcp://a:1"}};
  EXPECT_THAT([&] { require_own_servers(plan); },
              ThrowsMessage<UsageError>(HasSubstr("leave communication.servers out")));
}

}  // namespace
}  // namespace trireme::test
