#include "trireme/server/client.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "tests/comm/message_of.h"
#include "tests/server/transports.h"
#include "trireme/base/error.h"
#include "trireme/base/partition.h"
#include "trireme/base/random.h"
#include "trireme/kernels/reduce.h"

namespace trireme::test {
namespace {

using server::Consistency;
using server::Gradient;
using server::ModelSchema;
using server::TableValues;
using Mode = Consistency::Mode;

class Clients : public OnEveryTransport {
 protected:
  static ModelSchema schema(Mode mode, OptimizerOptions optimizer = {}) {
    return {.dense = {{"small", 3}, {"w", 1000}, {"none", 0}, {"wide", 70}},
            .sparse = {{.name = "rows", .width = 5, .optimizer = {.name = "adagrad"}}},
            .optimizer = std::move(optimizer),
            .consistency = {.mode = mode, .workers = workers()}};
  }
};

std::vector<float> drawn(std::int64_t count, std::uint64_t seed) {
  std::vector<float> values(static_cast<std::size_t>(count));
  const CounterRandom random(seed);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random.normal(i));
  return values;
}

Buffer buffer_of(std::vector<float>& values) {
  return trireme::buffer_of(std::span(values));
}

/// The tensors of a schema, as one rank has them.
struct Model {
  explicit Model(const ModelSchema& schema, std::uint64_t seed = 1) {
    for (const server::DenseTable& table : schema.dense) {
      names.push_back(table.name);
      values.push_back(drawn(table.count, seed++));
    }
  }

  std::vector<TableValues> wanted() {
    std::vector<TableValues> all;
    for (std::size_t i = 0; i < names.size(); ++i) all.push_back({names[i], buffer_of(values[i])});
    return all;
  }
  std::vector<Gradient> gradients() {
    std::vector<Gradient> all;
    for (std::size_t i = 0; i < names.size(); ++i) all.push_back({names[i], buffer_of(values[i])});
    return all;
  }

  std::vector<std::string> names;
  std::vector<std::vector<float>> values;
};

TEST_P(Clients, PullWhatTheFirstWorkerHasStored) {
  run([](server::Client& client, Communicator&) {
    const ModelSchema model = schema(Mode::kAsynchronous);
    client.join(model);
    EXPECT_EQ(client.clock(), 0);
    if (client.worker() == 0) client.store(Model(model, 10).wanted());
    Model mine(model, 20);
    client.pull(mine.wanted());
    EXPECT_EQ(mine.values, Model(model, 10).values);
  });
}

// With plain SGD the order of pushes changes only the rounding, and nothing with integers.
TEST_P(Clients, ApplyEveryPushOnceWithoutWaiting) {
  run([](server::Client& client, Communicator& world) {
    const ModelSchema model = schema(Mode::kAsynchronous);
    client.join(model);
    Model mine(model);
    for (auto& values : mine.values) std::fill(values.begin(), values.end(), 0.0F);
    if (client.worker() == 0) client.store(mine.wanted());
    client.pull(mine.wanted());
    Model gradient(model);
    constexpr int kSteps = 20;
    for (int step = 1; step <= kSteps; ++step) {
      for (auto& values : gradient.values) {
        std::iota(values.begin(), values.end(), static_cast<float>(client.worker()));
      }
      client.push_pull(gradient.gradients(), {.lr = 1, .scale = -2}, mine.wanted());
      EXPECT_EQ(client.clock(), step);
    }
    world.barrier();
    client.pull(mine.wanted());
    const int n = world.size();
    for (const auto& values : mine.values) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        const auto per_step = 2 * (static_cast<int>(i) * n + n * (n - 1) / 2);
        ASSERT_EQ(values[i], static_cast<float>(kSteps * per_step)) << i;
      }
    }
    EXPECT_EQ(client.fetch(mine.wanted()), kSteps * n);
  });
}

// One that only disappears is lost, and the others may go on.
TEST_P(Clients, EndWithTheReasonOfOneThatHasFailed) {
  run([](server::Client& client, Communicator& world) {
    const int last = world.size() - 1;
    const ModelSchema model = schema(Mode::kAsynchronous);
    client.join(model);
    Model mine(model);
    if (client.worker() == 0) client.store(mine.wanted());
    client.pull(mine.wanted());
    world.barrier();
    const bool fails = world.rank() == last && last > 0;
    if (fails) client.fail("the loss of step 5 is inf");
    if (world.rank() % 2 == 0) world.barrier();  // the others wait in drain() meanwhile
    const std::string error = message_of<CommError>([&] {
      if (world.rank() % 2 == 0) return client.push(mine.gradients(), {.lr = 1});
      client.drain();
    });
    if (world.rank() % 2 != 0) world.barrier();
    if (!fails && last > 0) {
      EXPECT_EQ(
          error,
          fmt::format("parameter server: worker {} has failed: the loss of step 5 is inf", last));
    }
  });
}

// The oracle: the same optimizer on the mean of all gradients in the canonical order.
TEST_P(Clients, InSynchronousTrainingHaveTheBitsOfAnAllReduce) {
  run([](server::Client& client, Communicator& world) {
    const int n = world.size();
    const int workers = 7;
    ModelSchema model = schema(Mode::kSynchronous, {.name = "adam"});
    for (int worker = 0; worker < n; ++worker) {
      model.consistency.virtual_workers.push_back(
          static_cast<int>(partition(workers, n, worker).size()));
    }
    client.join(model);
    const ReductionTree tree(workers, n);
    const ReductionTree alone(workers, 1);
    Model mine(model, 30);
    if (client.worker() == 0) client.store(mine.wanted());
    Model expected(model, 30);
    std::vector<Shard> shards;
    std::vector<std::vector<float>> means;
    for (const auto& values : expected.values) means.emplace_back(values.size());
    for (std::size_t i = 0; i < means.size(); ++i) {
      const auto count = static_cast<std::int64_t>(means[i].size());
      shards.push_back(
          {expected.names[i], Region({count}), buffer_of(expected.values[i]), {means[i].data()}});
    }
    const auto optimizer = make_optimizer({.name = "adam"}, shards);
    for (int step = 0; step < 5; ++step) {
      client.pull(mine.wanted());
      ASSERT_EQ(mine.values, expected.values) << step;
      std::vector<std::vector<float>> rows;  // of this worker's nodes
      std::vector<Gradient> gradients;
      for (std::size_t i = 0; i < means.size(); ++i) {
        std::vector<std::vector<float>> contributions;
        for (int w = 0; w < workers; ++w) {
          contributions.push_back(drawn(
              std::ssize(means[i]), static_cast<std::uint64_t>(1000 + step * 100 + w * 10) + i));
        }
        // Nodes by their definition: the sum of virtual workers, left child plus right child.
        const std::function<std::vector<float>(int, std::int64_t)> node = [&](int level,
                                                                              std::int64_t index) {
          if (level == 0) return contributions[static_cast<std::size_t>(index)];
          std::vector<float> left = node(level - 1, 2 * index);
          const std::vector<float> right = node(level - 1, 2 * index + 1);
          for (std::size_t j = 0; j < left.size(); ++j) left[j] += right[j];
          return left;
        };
        std::vector<float>& all = rows.emplace_back();
        for (const auto& [level, index] : tree.nodes_of(client.worker())) {
          const auto sum = node(level, index);
          all.insert(all.end(), sum.begin(), sum.end());
        }
        // The reference: all virtual workers on one rank.
        std::vector<std::vector<float>> terms;
        for (const auto& [level, index] : alone.terms()) terms.push_back(node(level, index));
        std::vector<const void*> pointers;
        for (const auto& term : terms) pointers.push_back(term.data());
        void* out = means[i].data();
        tree_reduce({&out, 1}, pointers, alone, std::ssize(means[i]), DType::kF32, ReduceOp::kMean);
      }
      for (std::size_t i = 0; i < rows.size(); ++i) {
        gradients.push_back({mine.names[i], buffer_of(rows[i])});
      }
      client.push(gradients, {.lr = 0.01});
      optimizer->set_lr(0.01);
      optimizer->step();
      EXPECT_EQ(client.clock(), step + 1);
    }
  });
}

TEST_P(Clients, PushAndPullRowsByKey) {
  run([](server::Client& client, Communicator& world) {
    ModelSchema model = schema(Mode::kAsynchronous);
    model.sparse[0].optimizer = {.name = "sgd"};
    model.sparse[0].init = {.kind = server::RowInit::Kind::kUniform, .scale = 0.5, .seed = 9};
    client.join(model);
    if (client.worker() == 0) client.store(Model(model).wanted());
    // One key twice, keys of all servers, the extremes.
    const std::vector<std::uint64_t> keys = {7, 0, 12345678901234567890ull, 7, ~std::uint64_t{0},
                                             1};
    std::vector<float> before(keys.size() * 5);
    client.pull(std::vector<TableValues>{{"rows", buffer_of(before), keys}});
    for (const float value : before) {
      EXPECT_GE(value, -0.5F);
      EXPECT_LT(value, 0.5F);
    }
    EXPECT_NE(before[0], before[5]);
    EXPECT_EQ(before[0], before[15]) << "the same key";
    EXPECT_THAT(client.fetch_keys("rows"), testing::IsEmpty()) << "reading makes no rows";
    world.barrier();
    std::vector<float> ones(keys.size() * 5, 1.0F);
    client.push(std::vector<Gradient>{{"rows", buffer_of(ones), keys}}, {.lr = 0.25});
    world.barrier();
    std::vector<float> after(keys.size() * 5);
    client.pull(std::vector<TableValues>{{"rows", buffer_of(after), keys}});
    for (std::size_t i = 0; i < after.size(); ++i) {
      const float times = i / 5 == 0 || i / 5 == 3 ? 2.0F : 1.0F;
      EXPECT_NEAR(after[i], before[i] - 0.25F * times * static_cast<float>(world.size()), 1e-5);
    }
    EXPECT_THAT(client.fetch_keys("rows"),
                testing::UnorderedElementsAre(7, 0, 12345678901234567890ull, ~std::uint64_t{0}, 1));
  });
}

// The servers receive the compressed gradient of each range; its residual is added to the next
// push.
TEST_P(Clients, PushThroughACodec) {
  run([](server::Client& client, Communicator& world) {
    for (const char* const codec : {"int8", "top_k", "power_sgd"}) {
      SCOPED_TRACE(codec);
      if (client.worker() > 0) continue;  // one is enough: a codec does not depend on other workers
      const CompressionOptions options{.codec = codec, .ratio = 0.1};
      std::vector<Compressor> ours;
      std::vector<Compressor> expected;
      const std::vector<std::int64_t> shape = {50, 20};
      for (int shard = 0; shard < client.shards(); ++shard) {
        const Range range = server::range_of(1000, 1, shard, client.shards());
        ours.emplace_back(options, shape, range, 5);
        expected.emplace_back(options, shape, range, 5);
      }
      ModelSchema model = schema(Mode::kAsynchronous);
      client.join(model);
      Model mine(model);
      client.store(mine.wanted());
      std::vector<float> values = mine.values[1];
      for (std::uint64_t step = 0; step < 3; ++step) {
        std::vector<float> gradient = drawn(1000, 70 + step);
        const std::int64_t clock = client.clock();
        client.push_pull(
            std::vector<Gradient>{
                {.table = "w", .values = buffer_of(gradient), .compressors = ours}},
            {.lr = 0.5}, mine.wanted());
        for (int shard = 0; shard < client.shards(); ++shard) {
          const Range range = server::range_of(1000, 1, shard, client.shards());
          std::vector<std::byte> payload(expected[shard].bytes());
          expected[shard].encode(buffer_of(gradient).slice(range.begin, range.size()), clock,
                                 payload);
          decode_add(payload, range.size(), values.data() + range.begin, -0.5F);
        }
        for (std::size_t i = 0; i < values.size(); ++i) {
          ASSERT_NEAR(mine.values[1][i], values[i], 1e-5) << i;
        }
      }
    }
    world.barrier();
  });
}

TEST_P(Clients, CannotMakeRequestsBeforeTheyJoin) {
  run([](server::Client& client, Communicator& world) {
    const ModelSchema model = schema(Mode::kAsynchronous);
    Model mine(model);
    std::vector<std::int64_t> steps(4);
    const std::pair<const char*, std::function<void()>> calls[] = {
        {"store", [&] { client.store(mine.wanted()); }},
        {"store_steps", [&] { client.store_steps(steps); }},
        {"fetch_steps", [&] { client.fetch_steps(steps); }},
        {"push", [&] { client.push(mine.gradients(), {.lr = 1}); }},
        {"pull", [&] { client.pull(mine.wanted()); }},
        {"push_pull", [&] { client.push_pull(mine.gradients(), {.lr = 1}, mine.wanted()); }},
        {"fetch", [&] { client.fetch(mine.wanted()); }},
        {"fetch_keys", [&] { client.fetch_keys("rows"); }},
        {"drain", [&] { client.drain(); }},
    };
    for (const auto& [name, call] : calls) {
      EXPECT_THAT(
          message_of<UsageError>(call),
          testing::AllOf(testing::StartsWith(std::string(name) + ": worker "),
                         testing::HasSubstr("has not joined the servers; call join(schema)")))
          << name;
    }
    client.join(model);
    EXPECT_THAT(message_of<UsageError>([&] {
                  std::vector<std::int64_t> more(5);
                  client.store_steps(more);
                }),
                testing::HasSubstr("a step for each of 4 dense tables, got 5"));
    if (client.worker() == 0) client.store(mine.wanted());
    client.pull(mine.wanted());
    world.barrier();
  });
}

TEST_P(Clients, CannotMakeRequestsOnceTheyHaveLeft) {
  run([](server::Client& client, Communicator&) {
    const ModelSchema model = schema(Mode::kAsynchronous);
    client.join(model);
    Model mine(model);
    if (client.worker() == 0) client.store(mine.wanted());
    client.pull(mine.wanted());
    client.leave();
    EXPECT_THAT(message_of<UsageError>([&] { client.fetch(mine.wanted()); }),
                testing::HasSubstr("fetch: worker"));
    EXPECT_THAT(message_of<UsageError>([&] { client.drain(); }),
                testing::HasSubstr("has left the servers"));
  });
}

TEST_P(Clients, GetErrorsAndContinue) {
  run([](server::Client& client, Communicator&) {
    const ModelSchema model = schema(Mode::kAsynchronous);
    ModelSchema other = model;
    other.dense[1].count = 90;
    client.join(model);
    EXPECT_THAT(message_of<UsageError>([&] { client.join(other); }),
                testing::HasSubstr("this is another model: w has elements: 90 here and 1000 on the "
                                   "servers"));
    client.join(model);
    Model mine(model);
    if (client.worker() == 0) client.store(mine.wanted());
    std::vector<float> wrong(9);
    EXPECT_THAT(message_of<UsageError>([&] {
                  client.pull(std::vector<TableValues>{{"w", buffer_of(wrong)}});
                }),
                testing::HasSubstr("pull: w is f32[1000], got f32[9]"));
    EXPECT_THAT(message_of<UsageError>([&] {
                  client.push(std::vector<Gradient>{{"wide", buffer_of(wrong)}}, {});
                }),
                testing::HasSubstr("push: wide wants rows of f32[70], got f32[9]"));
    EXPECT_THAT(message_of<UsageError>([&] {
                  client.pull(std::vector<TableValues>{{"wode", buffer_of(wrong)}});
                }),
                testing::HasSubstr("no table \"wode\"; did you mean \"wide\"?"));
    client.pull(mine.wanted());
  });
}

TEST_P(Clients, ReadNothingOlderThanTheStalenessAllows) {
  run([](server::Client& client, Communicator& world) {
    constexpr int kStaleness = 2;
    ModelSchema model = schema(Mode::kBounded);
    model.dense = {{"counts", 16 * 8}};
    model.consistency.staleness = kStaleness;
    client.join(model);
    std::vector<float> counts(16 * 8);
    const std::vector<TableValues> wanted = {{"counts", buffer_of(counts)}};
    if (client.worker() == 0) client.store(wanted);
    // Worker r counts its steps in elements that every server holds some of.
    std::vector<float> gradient(16 * 8);
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      gradient[i] = static_cast<int>(i) % world.size() == client.worker() ? -1.0F : 0.0F;
    }
    for (int step = 0; step < 50; ++step) {
      client.pull(wanted);
      for (std::size_t i = 0; i < counts.size(); ++i) ASSERT_GE(counts[i], step - kStaleness);
      client.push(std::vector<Gradient>{{"counts", buffer_of(gradient)}}, {.lr = 1});
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Workers, Clients, every_transport(), transport_name);

TEST(EmbeddedServers, ContinueWhenRankZeroHasLeft) {
  for (int round = 0; round < 100; ++round) {
    run_ranks(2, [](Communicator& world) {
      const auto client = server::embedded(world, {.shards = 2});
      client->join({.dense = {{"w", 100}}, .consistency = {.workers = 2}});
      std::vector<float> values(100);
      const std::vector<TableValues> wanted = {{"w", buffer_of(values)}};
      if (world.rank() == 0) client->store(wanted);
      world.barrier();
      if (world.rank() == 0) return;
      const std::vector<Gradient> gradients = {{"w", buffer_of(values)}};
      for (int step = 0; step < 20; ++step) client->push_pull(gradients, {}, wanted);
    });
  }
}

// The servers' memory is gone with them where ranks are threads.
TEST(EmbeddedServers, EndTheWaitOfAWorkerWhenTheyAreLost) {
  const auto rank = [](Communicator& world) {
    const auto client = server::embedded(world, {.shards = 2});
    client->join({.dense = {{"w", 100}}, .consistency = {.mode = Mode::kBounded, .workers = 2}});
    std::vector<float> values(100);
    const std::vector<TableValues> wanted = {{"w", buffer_of(values)}};
    const std::vector<Gradient> gradients = {{"w", buffer_of(values)}};
    if (world.rank() == 0) client->store(wanted);
    world.barrier();
    if (world.rank() == 0) throw DataError("no more data");
    EXPECT_THAT(message_of<CommError>([&] { client->push_pull(gradients, {}, wanted); }),
                testing::HasSubstr("lost: rank 0, which runs the servers, has ended"));
    throw CommError("a victim");
  };
  EXPECT_THAT(message_of<DataError>([&] { run_ranks(2, rank); }), testing::HasSubstr("no more"));
}

}  // namespace
}  // namespace trireme::test
