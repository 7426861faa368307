// Models whose weights get their memory when a strategy attaches them.

#include <ATen/ATen.h>
#include <c10/util/intrusive_ptr.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>

#include <atomic>
#include <fstream>

#include "tests/comm/ranks.h"
#include "tests/parallel/named_strategies.h"
#include "tests/parallel/sharded_run.h"
#include "tests/world/rank_processes.h"
#include "trireme/base/error.h"
#include "trireme/model/layers.h"
#include "trireme/model/module_block.h"
#include "trireme/optim/adam.h"
#include "trireme/parallel/replicated.h"
#include "trireme/parallel/sharded.h"

namespace trireme {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

// Layers of `width` x `width`, each of which loses its memory before the next one is made.
std::unique_ptr<Model> deferred_mlp(std::int64_t width, std::size_t layers, InitialValues values) {
  const std::vector<std::int64_t> widths(layers - 1, width);
  auto model = std::make_unique<Model>(
      mlp_blocks(width, widths, width, {activation_named("tanh")}, "",
                 [](const Block& block) { free_weights(block.tensors()); }));
  if (!values) values = initial_values(model->tensors(), "xavier_uniform", 1);
  model->defer_weights(std::move(values));
  return model;
}

class DeferredWeightsOf : public testing::TestWithParam<std::string> {};

TEST_P(DeferredWeightsOf, TrainAsOthersDo) {
  const auto make = [&](Communicator& world) {
    return test::strategy_named(GetParam(), world, {.virtual_workers = 4});
  };
  test::ShardedCase options{.ranks = 3, .optimizer = "sgd"};
  const test::TrainedSteps expected = test::train_with(make, options, 2);
  options.defers_weights = true;
  EXPECT_TRUE(test::is_same(test::train_with(make, options, 2), expected));
}

INSTANTIATE_TEST_SUITE_P(Strategies, DeferredWeightsOf, test::kStrategyNames,
                         [](const auto& info) { return info.param; });

TEST(DeferredWeights, CannotBeUsedBeforeAttach) {
  const auto model = deferred_mlp(8, 2, {});
  const NamedTensor weight = model->tensors().parameters.front();
  EXPECT_TRUE(weight.second.isnan().all().item<bool>());
  EXPECT_EQ(weight.second.sizes(), at::IntArrayRef({8, 8}));
  EXPECT_TRUE(weight.second.requires_grad());
  EXPECT_THAT(
      [&] {
        model->forward(at::ones({1, 8}));
      },
      ThrowsMessage<UsageError>(HasSubstr("attach the model to a strategy")));
  test::run_ranks(1, [&](Communicator& world) {
    const auto strategy = replicated(world);
    strategy->attach(*model);
    EXPECT_TRUE(model->forward(at::ones({1, 8})).isfinite().all().item<bool>());
  });
}

// Rank 0 sets each weight once; the weights before have gone to the pieces then.
TEST(DeferredWeights, AreThereOneAtATime) {
  constexpr std::size_t kLayers = 5;
  std::vector<c10::weak_intrusive_ptr<c10::TensorImpl>> seen;
  test::run_ranks_over_messages(3, [&](Communicator& world) {
    const auto model = deferred_mlp(80, kLayers, [&](const NamedTensor& weight) {
      ASSERT_EQ(world.rank(), 0);
      for (const auto& before : seen) EXPECT_EQ(before.use_count(), 0);
      seen.emplace_back(weight.second.getIntrusivePtr());
      weight.second.fill_(1);
    });
    const auto strategy = sharded(world, {.stage = 3});
    for (const Shard& shard : strategy->attach(*model)) {
      if (!shard.name.ends_with("weight")) continue;
      const auto* const values = static_cast<const float*>(shard.values.data);
      EXPECT_EQ(std::count(values, values + shard.values.count, 1.0F), shard.values.count);
    }
  });
  EXPECT_EQ(seen.size(), kLayers);
}

TEST(DeferredWeights, AFailureToSetThemReachesTheCaller) {
  EXPECT_THAT(
      [] {
        test::run_ranks(2, [](Communicator& world) {
          const auto model = deferred_mlp(
              8, 2, [](const NamedTensor&) { throw DataError("file: read has failed"); });
          sharded(world, {.stage = 3})->attach(*model);
        });
      },
      ThrowsMessage<DataError>(HasSubstr("file: read has failed")));
}

// Private memory that this process may write to, in bytes.
rlim_t data_bytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word != "VmData:") continue;
    rlim_t kilobytes = 0;
    status >> kilobytes;
    return kilobytes << 10;
  }
  return 0;
}

// Stacks count, too, and each rank has threads of its own.
void limit_stacks() {
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, 256 << 10);
  ::pthread_setattr_default_np(&attributes);
}

// Without a product of matrices, for which OpenBLAS would take 128 MiB or try for ever.
struct Sum : torch::nn::Module {
  explicit Sum(std::int64_t width)
      : weight(register_parameter("weight", at::ones({width, width}))) {}
  at::Tensor forward(const at::Tensor& x) { return x + weight.mean(); }
  at::Tensor weight;
};

std::unique_ptr<Model> deferred_sums(std::int64_t width, int layers) {
  Blocks blocks;
  for (int layer = 0; layer < layers; ++layer) {
    append_module(blocks, std::make_shared<Sum>(width), fmt::format("layers.{}.", layer),
                  [](const Block& block) { free_weights(block.tensors()); });
  }
  auto model = std::make_unique<Model>(std::move(blocks));
  model->defer_weights(initial_values(model->tensors(), "kaiming_normal", 1));
  return model;
}

// Trains a model of 4.2 million parameters on two ranks, each a host, that together have
// `megabytes` of memory for it; returns the error, or "".
std::string error_of_training(int stage, std::int64_t megabytes) {
  test::RankProcesses process(1, [&](int) {
    limit_stacks();
    ::mallopt(M_ARENA_MAX, 1);
    ::mallopt(M_MMAP_THRESHOLD, 64 << 10);
    const rlim_t limit = data_bytes() + (static_cast<rlim_t>(megabytes) << 20);
    const rlimit limits{limit, limit};
    if (::setrlimit(RLIMIT_DATA, &limits) != 0) throw UsageError("setrlimit() has failed");
    test::run_ranks_over_messages(2, [&](Communicator& world) {
      const auto model = deferred_sums(512, 16);
      const auto strategy = stage == 0
                                ? replicated(world)
                                : sharded(world, {.stage = stage}, {.bucket_bytes = 1 << 20});
      AdamW optimizer(strategy->attach(*model));
      for (int step = 0; step < 2; ++step) {
        strategy->begin();
        strategy->backward(model->forward(at::ones({8})).square().mean());
        strategy->reduce_gradients();
        strategy->update(optimizer);
      }
    });
  });
  return process.error_of(0);
}

// 4.2 million parameters cost two ranks 134 MB in stage 0 and 67 MB in stage 3, where 4 MB of
// gathered layers and buckets are added.
TEST(MemoryLimit, AModelThatNoRankCanHoldIsTrainedInStage3) {
  EXPECT_THAT(error_of_training(0, 120), AnyOf(HasSubstr("memory"), HasSubstr("bad_alloc")));
  EXPECT_EQ(error_of_training(3, 120), "");
}

}  // namespace
}  // namespace trireme
