#include "trireme/server/rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "trireme/base/random.h"

namespace trireme::test {
namespace {

using server::Rows;
using server::SparseTable;

constexpr std::int64_t kWidth = 5;

/// A row of the slow reference: the tensor optimizer on one row of its own.
struct SlowRow {
  SlowRow(const OptimizerOptions& options, std::vector<float> initial)
      : values(std::move(initial)), gradient(values.size()) {
    shards.push_back({.name = "row",
                      .region = Region({std::ssize(values)}),
                      .values = buffer_of(std::span(values)),
                      .gradient = {gradient.data()}});
    optimizer = make_optimizer(options, shards);
  }
  SlowRow(const SlowRow&) = delete;
  SlowRow& operator=(const SlowRow&) = delete;

  std::vector<float> values;
  std::vector<float> gradient;
  std::vector<Shard> shards;
  std::unique_ptr<Optimizer> optimizer;
};

class EveryOptimizer : public testing::TestWithParam<std::string> {};

// Keys that are twice in one push, or in two pushes of one update, and enough keys to grow the
// index.
TEST_P(EveryOptimizer, UpdatesRowsAsAnOptimizerOfEachRowWould) {
  SparseTable table{.name = "t",
                    .width = kWidth,
                    .init = {.kind = server::RowInit::Kind::kUniform, .scale = 0.3, .seed = 5},
                    .optimizer = {.name = GetParam()}};
  if (GetParam() == "ftrl") table.init = {};
  Rows rows(table);
  std::map<std::uint64_t, std::unique_ptr<SlowRow>> slow;
  std::mt19937_64 random(11);
  for (int step = 0; step < 60; ++step) {
    const server::RowUpdate update{.lr = 0.1, .scale = 0.5, .clip_value = 1.5};
    std::vector<std::vector<std::uint64_t>> keys(1 + random() % 3);
    std::vector<std::vector<float>> gradients;
    std::vector<server::RowGradients> pushes;
    std::map<std::uint64_t, std::vector<float>> sums;
    for (auto& some : keys) {
      auto& values = gradients.emplace_back();
      for (int i = 0; i < 60; ++i) {
        some.push_back(random() % 2 == 0 ? random() % 40 : random() % 4000 * 0x9e3779b97f4a7c15ull);
        auto& sum = sums.try_emplace(some.back(), kWidth, 0.0F).first->second;
        for (std::int64_t j = 0; j < kWidth; ++j) {
          values.push_back(static_cast<float>(static_cast<int>(random() % 17) - 8) / 4);
          sum[static_cast<std::size_t>(j)] += values.back();  // exact: quarters
        }
      }
    }
    for (std::size_t i = 0; i < keys.size(); ++i) pushes.push_back({keys[i], gradients[i].data()});
    for (const auto& [key, sum] : sums) {
      auto& row = slow[key];
      if (!row) {
        std::vector<float> initial(kWidth);
        rows.read({&key, 1}, 0, initial.data());
        row = std::make_unique<SlowRow>(table.optimizer, initial);
      }
      row->gradient = sum;
      row->shards[0].gradient = {row->gradient.data()};
      row->optimizer = std::move(row->optimizer);
      row->optimizer->set_lr(update.lr);
      row->optimizer->set_gradient_scale(update.scale);
      row->optimizer->set_gradient_clip_value(update.clip_value);
      row->optimizer->step();
    }
    rows.prepare(pushes);
    rows.update(update);
  }
  ASSERT_GT(slow.size(), 2000U) << "the index must have grown";
  EXPECT_EQ(rows.size(), std::ssize(slow));
  for (const auto& [key, row] : slow) {
    std::vector<float> values(kWidth);
    rows.read({&key, 1}, 0, values.data());
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_NEAR(values[i], row->values[i], 2e-6 + 2e-6 * std::abs(row->values[i])) << key;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Optimizers, EveryOptimizer,
                         testing::Values("sgd", "adagrad", "adam", "rmsprop", "ftrl"));

TEST(Rows, ThatAreMissingTakeNoMemoryAndReadAsTheirInitialValues) {
  const SparseTable table{.name = "t",
                          .width = kWidth,
                          .init = {.kind = server::RowInit::Kind::kNormal, .scale = 2, .seed = 1},
                          .optimizer = {.name = "adagrad"}};
  Rows rows(table);
  const std::size_t before = rows.bytes();
  std::vector<float> first(kWidth);
  std::vector<float> again(kWidth);
  double squares = 0;
  for (std::uint64_t key = 0; key < 2000; ++key) {
    rows.read({&key, 1}, 0, first.data());
    rows.read({&key, 1}, 0, again.data());
    ASSERT_EQ(first, again);
    for (const float value : first) squares += value * value;
  }
  EXPECT_NEAR(squares / 10000, 4, 0.3) << "normal, with deviation 2";
  EXPECT_EQ(rows.bytes(), before);
  EXPECT_EQ(rows.size(), 0);
}

TEST(Rows, TakeAtMostAQuarterMoreThanValuesAndState) {
  const SparseTable table{.name = "t", .width = 64, .init = {}, .optimizer = {.name = "adagrad"}};
  Rows rows(table);
  std::vector<float> gradient(64, 1.0F);
  for (std::uint64_t key = 0; key < 300'000; ++key) {
    const std::vector<server::RowGradients> push = {{{&key, 1}, gradient.data()}};
    rows.prepare(push);
    rows.update({.lr = 0.1});
    if (key + 1 < 20'000 || (key + 1) % 10'000 != 0) continue;
    const std::size_t bare = static_cast<std::size_t>(rows.size()) * 2 * 64 * sizeof(float);
    ASSERT_LE(static_cast<double>(rows.bytes()), 1.25 * static_cast<double>(bare)) << key;
  }
}

}  // namespace
}  // namespace trireme::test
