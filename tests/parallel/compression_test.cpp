#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/linear.h>

#include <map>
#include <mutex>
#include <optional>

#include "tests/comm/ranks.h"
#include "tests/tensor/random_tensor.h"
#include "trireme/base/error.h"
#include "trireme/base/hash.h"
#include "trireme/optim/sgd.h"
#include "trireme/parallel/compressed_sum.h"
#include "trireme/parallel/host_shared.h"
#include "trireme/parallel/replicated.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {
namespace {

using test::random_tensor;

constexpr std::int64_t kInputs = 9;
constexpr std::int64_t kOutputs = 7;
constexpr std::int64_t kSamples = 120;

struct Samples {
  at::Tensor x = random_tensor({kSamples, kInputs}, 1);
  at::Tensor y = x.matmul(random_tensor({kInputs, kOutputs}, 2)) +
                 random_tensor({kSamples, kOutputs}, 3).mul(0.5);
};

CompressionOptions options_of(std::string_view codec) {
  return {.codec = std::string(codec), .ratio = 0.2, .rank = 2};
}

// Saves the state of a strategy, and restores it.
std::map<std::string, std::vector<char>> saved(Strategy& strategy) {
  std::map<std::string, std::vector<char>> saved;
  for (const Strategy::State& tensor : strategy.state()) {
    const char* data = tensor.values.as<char>();
    saved[tensor.name].assign(data, data + tensor.values.bytes());
  }
  return saved;
}

void restore(Strategy& strategy, const std::map<std::string, std::vector<char>>& saved) {
  const auto state = strategy.state();
  ASSERT_EQ(state.size(), saved.size());
  for (const Strategy::State& tensor : state) {
    const auto& bytes = saved.at(tensor.name);
    ASSERT_EQ(bytes.size(), tensor.values.bytes());
    std::copy(bytes.begin(), bytes.end(), tensor.values.as<char>());
  }
}

// Gradient descent on the mean squared error, each virtual worker with a share of the samples.
class Descent {
 public:
  Descent(Communicator& world, std::string_view codec, int virtual_workers = 0)
      : strategy_(replicated(world, {.virtual_workers = virtual_workers,
                                     .bucket_bytes = 64,
                                     .compression = options_of(codec)})) {
    {
      const at::NoGradGuard no_grad;
      model_->weight.zero_();
      model_->bias.zero_();
    }
    sgd_.emplace(strategy_->attach(*model_));
    workers_ = virtual_workers == 0 ? world.size() : virtual_workers;
  }

  void step(double lr) {
    const Range mine = strategy_->virtual_workers();
    strategy_->begin();
    for (std::int64_t worker = mine.begin; worker < mine.end; ++worker) {
      const Range part = partition(kSamples, workers_, worker);
      const at::Tensor x = samples_.x.slice(0, part.begin, part.end);
      const at::Tensor y = samples_.y.slice(0, part.begin, part.end);
      const double weight = double(part.size()) * double(workers_) / kSamples;
      strategy_->backward((model_->forward(x) - y).square().sum(1).mean() * weight);
    }
    strategy_->reduce_gradients();
    sgd_->set_lr(lr);
    strategy_->update(*sgd_);
  }

  Strategy& strategy() { return *strategy_; }
  torch::nn::Linear& model() { return model_; }
  at::Tensor solution() const {
    return at::cat({model_->weight, model_->bias.unsqueeze(1)}, 1).detach().clone();
  }

 private:
  Samples samples_;
  torch::nn::Linear model_{kInputs, kOutputs};
  std::unique_ptr<Strategy> strategy_;
  std::optional<Sgd> sgd_;
  std::int64_t workers_ = 0;
};

// The least-squares solution by LAPACK, as an independent reference.
at::Tensor least_squares() {
  const Samples samples;
  const at::Tensor x = at::cat({samples.x, at::ones({kSamples, 1})}, 1).to(at::kDouble);
  const at::Tensor inverse = at::linalg_inv(x.t().matmul(x));
  return inverse.matmul(x.t()).matmul(samples.y.to(at::kDouble)).t().to(at::kFloat);
}

class CompressedGradients : public ::testing::TestWithParam<std::tuple<std::string_view, int>> {};

TEST_P(CompressedGradients, EndAtTheLeastSquaresSolutionWithTheSameBitsOnEveryRank) {
  const auto [codec, ranks] = GetParam();
  std::vector<at::Tensor> ends(static_cast<std::size_t>(ranks));
  test::run_ranks(ranks, [&, codec = codec](Communicator& world) {
    Descent descent(world, codec);
    for (int step = 0; step < 600; ++step) descent.step(0.05 / (1 + step / 40.0));
    ends[static_cast<std::size_t>(world.rank())] = descent.solution();
    world.barrier();
  });
  const double error = (ends[0] - least_squares()).abs().max().item<double>();
  EXPECT_LT(error, 0.01);
  for (const at::Tensor& end : ends) EXPECT_TRUE(end.equal(ends[0]));
}

TEST_P(CompressedGradients, GoOnWithTheSameBitsFromWhatStateHolds) {
  const auto [codec, ranks] = GetParam();
  test::run_ranks(ranks, [&, codec = codec, ranks = ranks](Communicator& world) {
    Descent through(world, codec, 2 * ranks + 1);
    Descent first(world, codec, 2 * ranks + 1);
    Descent second(world, codec, 2 * ranks + 1);
    for (int step = 0; step < 5; ++step) through.step(0.05);
    for (int step = 0; step < 3; ++step) first.step(0.05);
    {
      const at::NoGradGuard no_grad;
      second.model()->weight.copy_(first.model()->weight);
      second.model()->bias.copy_(first.model()->bias);
    }
    restore(second.strategy(), saved(first.strategy()));
    for (int step = 0; step < 2; ++step) second.step(0.05);
    EXPECT_TRUE(second.solution().equal(through.solution()));
  });
}

INSTANTIATE_TEST_SUITE_P(CodecsAndRanks, CompressedGradients,
                         ::testing::Combine(::testing::ValuesIn(compression_codecs().begin(),
                                                                compression_codecs().end()),
                                            ::testing::Values(1, 2, 3, 4)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_on_" +
                                  std::to_string(std::get<1>(info.param));
                         });

class CompressedSums : public ::testing::TestWithParam<std::tuple<std::string_view, int>> {};

// The reference has the compressors of all ranks in one thread.
TEST_P(CompressedSums, AddUpWhatEachRankSends) {
  const auto [codec, ranks] = GetParam();
  const std::vector<CompressedSum::Tensor> tensors = {{"a", {17, 31}}, {"b", {5}}, {"c", {0, 4}}};
  const auto value_of = [](int rank, std::size_t tensor, int step, at::IntArrayRef shape) {
    return random_tensor(shape, 1000 + rank * 100 + tensor * 10 + step);
  };
  std::vector<std::vector<std::vector<float>>> expected(3);
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const std::int64_t count = at::empty(tensors[t].shape).numel();
    std::vector<Compressor> compressors;
    for (int rank = 0; rank < ranks; ++rank) {
      compressors.emplace_back(options_of(codec), tensors[t].shape, Range{0, count},
                               fnv1a(tensors[t].name));
    }
    for (int step = 0; step < 3; ++step) {
      std::vector<float> sum(static_cast<std::size_t>(count));
      for (int rank = 0; rank < ranks; ++rank) {
        std::vector<std::byte> payload(compressors[rank].bytes());
        compressors[rank].encode(buffer_of(value_of(rank, t, step, tensors[t].shape)), step,
                                 payload);
        decode_add(payload, count, sum.data());
      }
      expected[step].push_back(sum);
    }
  }
  // Sums in half precision are rounded once more, and an all-reduce sums in tree order.
  const double tolerance = codec == "bf16" ? 0.04 : codec == "f16" ? 0.005 : 1e-5;
  test::run_ranks(ranks, [&, codec = codec](Communicator& world) {
    for (const auto dtype : {at::kFloat, at::kDouble}) {
      CompressedSum sum(world, options_of(codec), tensors);
      for (int step = 0; step < 3; ++step) {
        std::vector<at::Tensor> values;
        std::vector<Buffer> buffers;
        for (std::size_t t = 0; t < tensors.size(); ++t) {
          values.push_back(value_of(world.rank(), t, step, tensors[t].shape).to(dtype));
          buffers.push_back(buffer_of(values.back()));
        }
        sum.start(buffers, step).wait();
        sum.finish(buffers);
        for (std::size_t t = 0; t < tensors.size(); ++t) {
          const at::Tensor flat = values[t].flatten().to(at::kFloat).contiguous();
          for (std::int64_t i = 0; i < flat.numel(); ++i) {
            ASSERT_NEAR(flat.data_ptr<float>()[i], expected[step][t][i], tolerance)
                << step << " " << t << " " << i;
          }
        }
      }
    }
  });
}

// power_sgd sums its factors: LowRankSum.
INSTANTIATE_TEST_SUITE_P(CodecsAndRanks, CompressedSums,
                         ::testing::Combine(::testing::Values("none", "bf16", "f16", "int8",
                                                              "top_k", "random_k", "sign"),
                                            ::testing::Values(1, 2, 3)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_on_" +
                                  std::to_string(std::get<1>(info.param));
                         });

// bf16 is close in every step, and several rows a rank are folded.
TEST(CompressedGradients, AreTheMeanOverTheVirtualWorkers) {
  for (const int ranks : {1, 2, 3, 4}) {
    test::run_ranks(ranks, [ranks](Communicator& world) {
      Descent plain(world, "none", 3 * ranks + 1);
      Descent compressed(world, "bf16", 3 * ranks + 1);
      for (int step = 0; step < 2; ++step) {
        plain.step(0.05);
        compressed.step(0.05);
      }
      EXPECT_TRUE(compressed.solution().allclose(plain.solution(), 0.01, 0.002));
    });
  }
}

// The factors are linear: ranks that sum their factors get the result of one rank with the whole
// sum.
TEST(LowRankSum, IsPowerSgdOfTheSum) {
  const std::vector<NamedShape> tensors = {{"a", {17, 31}}, {"b", {5}}, {"c", {0, 4}}};
  for (const int ranks : {1, 2, 3, 4}) {
    std::vector<std::vector<float>> expected;
    Compressor alone(options_of("power_sgd"), tensors[0].shape, {0, 17 * 31}, fnv1a("a"));
    for (int step = 0; step < 3; ++step) {
      at::Tensor sum = at::zeros({17, 31});
      for (int rank = 0; rank < ranks; ++rank) sum += random_tensor({17, 31}, 10 * rank + step);
      std::vector<std::byte> payload(alone.bytes());
      alone.encode(buffer_of(sum), step, payload);
      expected.emplace_back(17 * 31);
      decode(payload, 17 * 31, expected.back().data());
    }
    test::run_ranks(ranks, [&](Communicator& world) {
      CompressedSum sum(world, options_of("power_sgd"), tensors);
      for (int step = 0; step < 3; ++step) {
        std::vector<at::Tensor> values = {random_tensor({17, 31}, 10 * world.rank() + step),
                                          at::full({5}, world.rank() + 1, at::kDouble),
                                          at::empty({0, 4})};
        std::vector<Buffer> buffers;
        for (const at::Tensor& value : values) buffers.push_back(buffer_of(value));
        sum.start(buffers, step).wait();
        sum.finish(buffers);
        for (std::int64_t i = 0; i < 17 * 31; ++i) {
          ASSERT_NEAR(values[0].data_ptr<float>()[i], expected[step][i], 2e-4) << step << " " << i;
        }
        EXPECT_TRUE(values[1].equal(at::full({5}, ranks * (ranks + 1) / 2, at::kDouble)));
      }
    });
  }
}

// The sum of the inputs of all ranks minus the result is the sum of their residuals.
TEST(LowRankSum, LosesNothing) {
  test::run_ranks(3, [](Communicator& world) {
    CompressedSum sum(world, options_of("power_sgd"), {{"a", {17, 31}}});
    at::Tensor left = at::zeros({17, 31});
    for (int step = 0; step < 5; ++step) {
      at::Tensor value = random_tensor({17, 31}, 10 * world.rank() + step);
      left += value;
      const Buffer buffer = buffer_of(value);
      sum.start({&buffer, 1}, step).wait();
      sum.finish({&buffer, 1});
      if (world.rank() == 0) left -= value;
    }
    for (const Strategy::State& tensor : sum.state()) {
      if (tensor.name == "compression.residual.of_3.a")
        left -= tensor_over(tensor.values, {17, 31});
    }
    world.all_reduce(buffer_of(left)).wait();
    EXPECT_LT(left.abs().max().item<float>(), 1e-3);
  });
}

void expect_residual_kept(const std::string& codec) {
  test::run_ranks(3, [&](Communicator& world) {
    torch::nn::Module model;
    torch::nn::Linear used = model.register_module("used", torch::nn::Linear(4, 4));
    torch::nn::Linear idle = model.register_module("idle", torch::nn::Linear(4, 4));
    const auto strategy =
        replicated(world, {.compression = {.codec = codec, .ratio = 0.3, .rank = 1}});
    const auto shards = strategy->attach(model);
    Sgd sgd(shards, {.lr = 1e-6});
    const auto residual = [&] {
      for (const Strategy::State& tensor : strategy->state()) {
        if (tensor.name == "compression.residual.of_3.idle.weight") {
          EXPECT_EQ(tensor.region, row_of(world.rank(), 3, 16));
          return tensor_over(tensor.values, {16}).clone();
        }
      }
      return at::Tensor();
    };
    const at::Tensor x = random_tensor({2, 4}, 7 + world.rank());
    strategy->begin();
    strategy->backward((used->forward(x) + idle->forward(x)).square().sum());
    strategy->reduce_gradients();
    strategy->update(sgd);
    const at::Tensor before = residual();
    EXPECT_GT(before.abs().max().item<float>(), 0);
    strategy->begin();
    strategy->backward(used->forward(x).square().sum());
    strategy->reduce_gradients();
    EXPECT_FALSE(shards[2].has_gradient);
    strategy->update(sgd);
    EXPECT_TRUE(residual().allclose(before, 1e-4, 1e-5));
  });
}

TEST(CompressedGradients, OfAnUnusedParameterKeepTheirResidual) {
  expect_residual_kept("int8");
  expect_residual_kept("bf16");
  expect_residual_kept("power_sgd");
}

TEST(CompressedGradients, AreRefusedWhereNoGradientIsSent) {
  test::run_ranks(1, [](Communicator& world) {
    try {
      host_shared(world, {.compression = {.codec = "sign"}});
      FAIL();
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("must be \"none\", got \"sign\""));
    }
    EXPECT_THROW(replicated(world, {.compression = {.codec = "zip"}}), UsageError);
  });
}

}  // namespace
}  // namespace trireme
