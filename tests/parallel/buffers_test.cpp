// What becomes of a model's buffers: unchanged ones keep their bits, whatever their type, and cost
// nothing; changed ones are averaged where that has a meaning.

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <limits>

#include "tests/comm/ranks.h"
#include "tests/parallel/named_strategies.h"
#include "trireme/base/error.h"
#include "trireme/optim/sgd.h"
#include "trireme/parallel/local_steps.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr int kVirtualWorkers = 6;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

at::Tensor causal_mask(std::int64_t size) {
  return at::full({size, size}, -kInfinity).triu(1);
}

// One buffer of each kind that models have.
struct Constants : torch::nn::Module {
  Constants() {
    weight = register_parameter("weight", at::ones({2}));
    register_buffer("causal", causal_mask(5));
    register_buffer("large", causal_mask(600));  // more than 1 MiB
    register_buffer("allowed", at::eye(4).to(at::kBool));
    register_buffer("expanded", at::arange(3, at::kFloat).unsqueeze(0).expand({4, 3}));
    register_buffer("transposed", at::arange(6, at::kDouble).view({2, 3}).t());
    register_buffer("roots", at::polar(at::ones({4}), at::arange(4, at::kFloat)));
    register_buffer("negative_zero", at::full({2}, -0.0, at::kDouble));
    register_buffer("ids", at::full({2}, (std::int64_t{1} << 60) + 1, at::kLong));
    register_buffer("bytes", at::full({3}, 255, at::kByte));
    register_buffer("short", at::full({3}, -7, at::kShort));
    register_buffer("half", at::full({3}, 1.5, at::kHalf));
    register_buffer("empty", at::empty({0, 3}));
    register_buffer("nothing", at::Tensor());
  }
  at::Tensor weight;
};

std::string bits_of(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.contiguous();
  return {static_cast<const char*>(dense.data_ptr()), dense.nbytes()};
}

class Buffers : public testing::TestWithParam<std::tuple<std::string, int>> {
 protected:
  // Makes `steps` steps in which `change` is called in each forward pass.
  static void train(torch::nn::Module& model, Communicator& world, int steps,
                    const std::function<void(int step, std::int64_t worker)>& change,
                    BufferUpdate update = BufferUpdate::kMean) {
    const auto strategy = test::strategy_named(
        std::get<0>(GetParam()), world, {.virtual_workers = kVirtualWorkers, .buffers = update});
    Sgd sgd(strategy->attach(model), {.lr = 0.1});
    const Range mine = strategy->virtual_workers();
    for (int step = 0; step < steps; ++step) {
      strategy->begin();
      for (std::int64_t w = mine.begin; w < mine.end; ++w) {
        {
          const at::NoGradGuard no_grad;
          change(step, w);
        }
        strategy->backward(model.parameters()[0].sum());
      }
      ASSERT_TRUE(strategy->reduce_gradients().is_finite);
      strategy->update(sgd);
    }
    world.barrier();  // host_shared: the parameters lie in the memory of rank 0
  }

  static void on_ranks(const std::function<void(Communicator&)>& body) {
    test::run_ranks(std::get<1>(GetParam()), body);
  }
};

TEST_P(Buffers, ThatNothingChangesKeepTheirBits) {
  on_ranks([](Communicator& world) {
    Constants model;
    if (world.rank() > 0) {
      // What differs is rank 0's from attach() on, even where values share their memory.
      for (const auto& [name, buffer] : tensors_of(model).buffers) {
        if (name == "expanded") buffer.set_data(at::zeros({1, 3}).expand({4, 3}));
        if (name == "allowed") buffer.logical_not_();
      }
    }
    train(model, world, 3, [](int, std::int64_t) {});
    const Constants expected;
    const auto now = tensors_of(model).buffers, before = tensors_of(expected).buffers;
    ASSERT_EQ(now.size(), before.size());
    for (std::size_t b = 0; b < now.size(); ++b) {
      EXPECT_EQ(bits_of(now[b].second), bits_of(before[b].second)) << now[b].first;
    }
  });
}

TEST_P(Buffers, ThatNothingChangesAreNotSent) {
  const auto bytes_a_step = [](bool with_mask) {
    std::int64_t sent = 0;
    on_ranks([&](Communicator& world) {
      torch::nn::Linear model(2, 1);
      if (with_mask) model->register_buffer("mask", causal_mask(300));
      std::int64_t before = 0;
      train(*model, world, 3, [&](int step, std::int64_t) {
        if (before == 0 && step == 1) before = world.traffic().sent;
      });
      if (world.rank() == 0) sent = world.traffic().sent - before;
    });
    return sent;
  };
  EXPECT_LT(bytes_a_step(true) - bytes_a_step(false), 1000);
}

// Of each type what a person would compute by hand.
TEST_P(Buffers, ThatChangeBecomeTheMean) {
  on_ranks([](Communicator& world) {
    struct Net : torch::nn::Module {
      Net() {
        weight = register_parameter("weight", at::ones({2}));
        f32 = register_buffer("f32", at::ones({2}));
        f64 = register_buffer("f64", at::ones({2}, at::kDouble));
        half = register_buffer("half", at::ones({2}, at::kHalf));
        counter = register_buffer("counter", at::full({1}, std::int64_t{1} << 52, at::kLong));
        flags = register_buffer("flags", at::zeros({3}, at::kBool));
        complex = register_buffer("complex", at::zeros({1}, at::kComplexFloat));
        least = register_buffer("least", at::full({2}, kInfinity));
        queue = register_buffer("queue", at::zeros({600, 600}));
        transposed = register_buffer("transposed", at::zeros({2, 3}).t());
      }
      at::Tensor weight, f32, f64, half, counter, flags, complex, least, queue, transposed;
    } net;
    train(net, world, 2, [&](int step, std::int64_t worker) {
      const auto w = static_cast<double>(worker);
      net.f32.add_(w);  // 0 to 5: 2.5
      net.f64.select(0, 1).add_(w / 8);
      net.half.mul_(2);
      net.counter.add_(step == 0 ? 3 : 1);
      net.flags[0] = worker == 0;
      net.flags[1] = worker != 0;
      net.complex.add_(c10::complex<float>(1, static_cast<float>(w)));
      if (worker % 2 == 0 || step == 1) net.least.select(0, 0).clamp_max_(w);
      net.queue.select(0, static_cast<std::int64_t>(worker)).fill_(6);
      net.transposed.select(0, 2).add_(w);
    });
    EXPECT_FLOAT_EQ(net.f32[0].item<float>(), 6);
    EXPECT_EQ(net.f64[0].item<double>(), 1);
    EXPECT_EQ(net.f64[1].item<double>(), 1 + 2 * 2.5 / 8);
    EXPECT_EQ(net.half[0].item<float>(), 4);
    EXPECT_EQ(net.counter.item<std::int64_t>(), (std::int64_t{1} << 52) + 4);
    EXPECT_TRUE(net.flags.equal(at::tensor({1, 0, 0}).to(at::kBool))) << net.flags;
    EXPECT_EQ(net.complex.item<c10::complex<double>>(), c10::complex<double>(2, 5));
    // In step 0 half of the workers leave infinity: so is the mean. Step 1: 0 to 5.
    EXPECT_EQ(net.least[0].item<float>(), 2.5);
    EXPECT_EQ(net.least[1].item<float>(), kInfinity);
    EXPECT_FLOAT_EQ(net.queue[3][0].item<float>(), 1 + 5.0 / 6);
    EXPECT_EQ(net.queue[6][0].item<float>(), 0);
    EXPECT_EQ(net.transposed[2][1].item<float>(), 5);
    EXPECT_EQ(net.transposed[1][1].item<float>(), 0);
  });
}

TEST_P(Buffers, AreTheFirstVirtualWorkersIfAskedFor) {
  on_ranks([](Communicator& world) {
    torch::nn::Linear model(2, 1);
    at::Tensor buffer = model->register_buffer("buffer", at::zeros({2}));
    at::Tensor untouched = model->register_buffer("untouched", at::full({2}, -kInfinity));
    train(
        *model, world, 3,
        [&](int, std::int64_t worker) { buffer.add_(static_cast<double>(worker + 1)); },
        BufferUpdate::kFirst);
    EXPECT_TRUE(buffer.equal(at::full({2}, 3.0))) << buffer;
    EXPECT_EQ(untouched[0].item<float>(), -kInfinity);
  });
}

// What a caller loads between two steps is what the next step starts from.
TEST_P(Buffers, MayBeLoadedBetweenSteps) {
  on_ranks([](Communicator& world) {
    torch::nn::Linear model(2, 1);
    at::Tensor buffer = model->register_buffer("buffer", at::zeros({2}));
    const auto strategy =
        test::strategy_named(std::get<0>(GetParam()), world, {.virtual_workers = kVirtualWorkers});
    Sgd sgd(strategy->attach(*model), {.lr = 0.1});
    const Range mine = strategy->virtual_workers();
    for (int step = 0; step < 3; ++step) {
      buffer.fill_(10 * step);
      strategy->begin();
      for (std::int64_t w = mine.begin; w < mine.end; ++w) {
        buffer.add_(1);
        strategy->backward(model->forward(at::ones({1, 2})).sum());
      }
      strategy->reduce_gradients();
      EXPECT_EQ(buffer[0].item<float>(), 10 * step) << "new values come with update()";
      strategy->update(sgd);
      EXPECT_EQ(buffer[0].item<float>(), 10 * step + 1);
    }
    world.barrier();
  });
}

TEST_P(Buffers, ThatCannotBeAreRefusedByName) {
  on_ranks([](Communicator& world) {
    torch::nn::Linear model(2, 1);
    model->register_buffer("adjacency", at::eye(3).to_sparse());
    const auto strategy =
        test::strategy_named(std::get<0>(GetParam()), world, {.virtual_workers = kVirtualWorkers});
    EXPECT_THAT([&] { strategy->attach(*model); },
                ThrowsMessage<UsageError>(HasSubstr("buffer adjacency")));
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, Buffers,
                         testing::Combine(test::kStrategyNames, testing::Values(1, 2, 3, 4)),
                         test::strategy_on_ranks);

// Groups of one rank each, which exchange every two steps, at once or a step later.
TEST(BuffersOfGroups, BecomeTheMeanOfTheGroupsWhereAnyHasChangedThem) {
  for (const int delay : {0, 1}) {
    test::run_ranks(3, [&](Communicator& world) {
      torch::nn::Linear model(2, 1);
      at::Tensor causal = model->register_buffer("causal", causal_mask(5));
      at::Tensor zero = model->register_buffer("zero", at::full({2}, -0.0, at::kDouble));
      at::Tensor sum = model->register_buffer("sum", at::zeros({2}));
      at::Tensor of_one = model->register_buffer("of_one", at::zeros({1}, at::kDouble));
      at::Tensor flag = model->register_buffer("flag", at::zeros({1}, at::kBool));
      at::Tensor complex = model->register_buffer("complex", at::zeros({1}, at::kComplexDouble));
      const auto strategy =
          local_steps(world, {.group_size = 1, .steps = 2, .delay = delay, .mix = 0});
      Sgd sgd(strategy->attach(*model), {.lr = 0.1});
      for (int step = 0; step < 2 + delay; ++step) {
        strategy->begin();
        if (step < 2) {
          sum.add_(world.rank());
          if (world.rank() == 2) of_one.add_(3);
          flag[0] = world.rank() == 0;
          complex.add_(c10::complex<double>(0, world.rank()));
        }
        strategy->backward(model->forward(at::ones({1, 2})).sum());
        strategy->reduce_gradients();
        strategy->update(sgd);
      }
      EXPECT_EQ(bits_of(causal), bits_of(causal_mask(5)));
      EXPECT_EQ(bits_of(zero), bits_of(at::full({2}, -0.0, at::kDouble)));
      EXPECT_EQ(sum[0].item<float>(), 2);
      EXPECT_EQ(of_one.item<double>(), 2);
      EXPECT_TRUE(flag.item<bool>());
      EXPECT_EQ(complex.item<c10::complex<double>>(), c10::complex<double>(0, 2));
    });
  }
}

}  // namespace
}  // namespace trireme
