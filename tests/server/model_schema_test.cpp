#include "trireme/server/model_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/comm/message_of.h"
#include "trireme/base/error.h"

namespace trireme::test {
namespace {

using server::Consistency;
using server::ModelSchema;
using testing::HasSubstr;

ModelSchema full() {
  OptimizerOptions optimizer{.name = "adam"};
  optimizer.eps = 1e-6;
  return {.dense = {{"fc1.weight", 100}, {"fc1.bias", 3, DType::kF64}},
          .sparse = {{.name = "users",
                      .width = 16,
                      .init = {.kind = server::RowInit::Kind::kNormal, .scale = 0.1, .seed = 9},
                      .optimizer = {.name = "adagrad"}}},
          .optimizer = optimizer,
          .clip_value = 0.5,
          .consistency = {.mode = Consistency::Mode::kBounded, .workers = 4, .staleness = 2}};
}

TEST(ModelSchema, IsReadBackAsItWasWritten) {
  const ModelSchema model = full();
  const ModelSchema read = server::parse_schema(to_json(model));
  EXPECT_EQ(difference(model, read), "");
  EXPECT_EQ(to_json(read), to_json(model));
}

TEST(ModelSchema, WithGroupsIsReadBackAndToldApart) {
  ModelSchema model = full();
  model.groups = {{.match = "fc1.bias", .lr_factor = 0.5, .weight_decay = 0},
                  {.match = "fc1.weight", .betas = {{0.8, 0.9}}, .trainable = false}};
  const ModelSchema read = server::parse_schema(to_json(model));
  EXPECT_EQ(difference(model, read), "");
  ASSERT_EQ(read.groups.size(), 2u);
  EXPECT_EQ(read.groups[0].match, "fc1.bias");
  EXPECT_EQ(read.groups[0].lr_factor, 0.5);
  EXPECT_EQ(read.groups[0].weight_decay, 0);
  EXPECT_EQ(read.groups[1].betas, model.groups[1].betas);
  EXPECT_FALSE(read.groups[1].trainable);
  EXPECT_THAT(difference(full(), model),
              HasSubstr("groups/0/match is nothing here and \"fc1.bias\" on the servers"));
  EXPECT_THAT(difference(model, full()), HasSubstr("groups/0/match is \"fc1.bias\" here"));
}

// They wrote the options of all optimizers.
TEST(ModelSchema, OfAnEarlierVersionHasTheOptionsOfItsOptimizerAlone) {
  const ModelSchema read = server::parse_schema(
      R"({"dense": [{"name": "w", "count": 4, "f64": false}], "sparse": [],
          "optimizer": {"name": "adam", "momentum": 0.0, "dampening": 0.0, "nesterov": false,
                        "beta1": 0.5, "beta2": 0.999, "alpha": 0.99, "centered": false,
                        "lr_decay": 0.0, "initial_accumulator": 0.0, "beta": 1.0, "l1": 0.0,
                        "l2": 0.0},
          "clip_value": 0.0,
          "consistency": {"mode": 2, "workers": 1, "staleness": 0, "backup_workers": 0,
                          "virtual_workers": []}})");
  EXPECT_EQ(read.optimizer.beta1, 0.5);
  EXPECT_EQ(read.optimizer.momentum, std::nullopt);
  const ModelSchema now{.dense = {{"w", 4}}, .optimizer = {.name = "adam", .beta1 = 0.5}};
  EXPECT_EQ(difference(now, read), "");
}

TEST(ModelSchema, WhoseOptimizerHasAnOptionOfAnotherIsRejected) {
  ModelSchema model = full();
  model.optimizer.momentum = 0.5;
  EXPECT_THAT(message_of<UsageError>([&] { check(model); }),
              HasSubstr("optimizer adam has no option momentum"));
}

TEST(ModelSchema, HasADifferenceThatNamesWhatDiffers) {
  const auto differs = [](const std::function<void(ModelSchema&)>& change) {
    ModelSchema other = full();
    change(other);
    return difference(full(), other);
  };
  EXPECT_THAT(differs([](ModelSchema& d) { d.dense[0].count = 90; }),
              HasSubstr("fc1.weight has elements: 100 here and 90 on the servers"));
  EXPECT_THAT(differs([](ModelSchema& d) { d.dense[1].dtype = DType::kF32; }),
              HasSubstr("fc1.bias is f64 here and f32 on the servers"));
  EXPECT_THAT(differs([](ModelSchema& d) { d.dense.pop_back(); }),
              HasSubstr("tensor 1 is fc1.bias here and nothing on the servers"));
  EXPECT_THAT(differs([](ModelSchema& d) { d.sparse[0].width = 8; }),
              HasSubstr("users has rows of 16 here and 8 on the servers"));
  EXPECT_THAT(differs([](ModelSchema& d) { d.optimizer.beta1 = 0.5; }),
              HasSubstr("optimizer/beta1"));
  EXPECT_THAT(differs([](ModelSchema& d) { d.consistency.staleness = 3; }),
              HasSubstr("consistency/staleness is 2 here and 3 on the servers"));
}

TEST(ModelSchema, ThatIsInvalidIsRejected) {
  const auto refused = [](const std::function<void(ModelSchema&)>& change) {
    ModelSchema other = full();
    change(other);
    const std::string what = message_of<UsageError>([&] { check(other); });
    EXPECT_THROW(server::parse_schema(to_json(other)), DataError) << what;
    return what;
  };
  EXPECT_THAT(refused([](ModelSchema& d) { d.dense[1].name = "fc1.weight"; }),
              HasSubstr("two tables are called fc1.weight"));
  EXPECT_THAT(refused([](ModelSchema& d) { d.dense[0].name = ""; }), HasSubstr("must have a name"));
  EXPECT_THAT(refused([](ModelSchema& d) { d.dense[0].count = -1; }), HasSubstr("got -1"));
  EXPECT_THAT(refused([](ModelSchema& d) { d.dense[0].count = INT64_MAX; }),
              HasSubstr("0 to 2^46 elements"));
  EXPECT_THAT(refused([](ModelSchema& d) {
                d.dense[0].shape = {3, 3};
              }),
              HasSubstr("fc1.weight must have the 9 elements of its shape [3, 3], got 100"));
  EXPECT_THAT(refused([](ModelSchema& d) { d.optimizer = {.name = "lamb"}; }),
              HasSubstr("fc1.weight must have a shape for the optimizer lamb"));
  EXPECT_THAT(refused([](ModelSchema& d) {
                d.optimizer = {.name = "muon"};
                d.dense[0].shape = {100};
                d.dense[1].shape = {3};
                d.groups = {{.match = "fc1.weight", .rule = "muon"}};
              }),
              HasSubstr("fc1.weight must be a matrix, got 1 dimensions"));
  EXPECT_THAT(refused([](ModelSchema& d) { d.dense[0].shape = {-1, -100}; }), HasSubstr("-1"));
  EXPECT_THAT(refused([](ModelSchema& d) { d.sparse[0].optimizer = {.name = "lamb"}; }),
              HasSubstr("must update rows alone, and lamb updates whole parameters"));
  EXPECT_THAT(refused([](ModelSchema& d) { d.sparse[0].width = 0; }), HasSubstr("rows of 1 to"));
  EXPECT_THAT(refused([](ModelSchema& d) { d.consistency.workers = 0; }),
              HasSubstr("workers must be 1 to"));
  EXPECT_THAT(refused([](ModelSchema& d) { d.consistency.staleness = -1; }),
              HasSubstr("staleness must be 0 or more"));
  EXPECT_THAT(refused([](ModelSchema& d) { d.consistency.backup_workers = 4; }),
              HasSubstr("backup_workers must leave one"));
}

TEST(ModelSchema, WithAFlippedByteOrTruncatedIsRejectedOrValid) {
  const std::string json = to_json(full());
  std::mt19937 random(1);
  for (int i = 0; i < 3000; ++i) {
    std::string bytes = json;
    if (i % 3 == 0) {
      bytes.resize(random() % bytes.size());
    } else {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    try {
      check(server::parse_schema(bytes));
    } catch (const DataError&) {
    }
  }
}

TEST(ModelSchema, CutsEachTensorIntoRangesThatCoverItOnce) {
  for (const int shards : {1, 2, 3, 7}) {
    for (const std::int64_t count : {0, 1, 15, 16, 17, 1000}) {
      for (std::size_t table = 0; table < 5; ++table) {
        std::vector<int> covered(static_cast<std::size_t>(count));
        for (int shard = 0; shard < shards; ++shard) {
          const Range range = server::range_of(count, table, shard, shards);
          for (std::int64_t i = range.begin; i < range.end; ++i) {
            ++covered[static_cast<std::size_t>(i)];
          }
        }
        EXPECT_THAT(covered, testing::Each(1));
      }
    }
  }
}

TEST(ModelSchema, LeavesTensorsWholeForAnOptimizerThatNeedsThem) {
  ModelSchema model = full();
  model.optimizer = {.name = "lamb"};
  for (const int shards : {1, 2, 3}) {
    for (std::size_t table = 0; table < model.dense.size(); ++table) {
      std::vector<std::int64_t> sizes;
      for (int shard = 0; shard < shards; ++shard) {
        sizes.push_back(server::range_of(model, table, shard, shards).size());
      }
      std::vector<std::int64_t> wanted(static_cast<std::size_t>(shards));
      wanted[table % wanted.size()] = model.dense[table].count;
      EXPECT_EQ(sizes, wanted);
    }
  }
}

TEST(ModelSchema, KeepsShapesAndRules) {
  ModelSchema model = full();
  model.optimizer = {.name = "muon", .newton_schulz_steps = 4};
  model.dense[0].shape = {model.dense[0].count / 10, 10};
  model.dense[1].shape = {3};
  model.groups = {{.match = "fc1.weight", .rule = "adamw"}};
  const ModelSchema read = server::parse_schema(to_json(model));
  EXPECT_EQ(read.dense[0].shape, model.dense[0].shape);
  EXPECT_EQ(read.groups.at(0).rule, "adamw");
  EXPECT_EQ(read.optimizer.newton_schulz_steps, 4);
  EXPECT_EQ(difference(model, read), "");
}

TEST(ModelSchema, SpreadsRowsEvenly) {
  for (const int shards : {1, 2, 3, 7}) {
    std::map<int, int> rows;
    for (std::uint64_t key = 0; key < 70000; ++key) ++rows[server::shard_of(key, shards)];
    ASSERT_EQ(std::ssize(rows), shards);
    for (const auto& [shard, count] : rows) EXPECT_NEAR(count, 70000 / shards, 70000 / shards / 20);
  }
}

}  // namespace
}  // namespace trireme::test
