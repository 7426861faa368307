#include "trireme/parallel/through_server.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/linear.h>

#include <chrono>
#include <thread>

#include "tests/comm/ranks.h"
#include "trireme/optim/sgd.h"
#include "trireme/server/embedded/embedded.h"

namespace trireme {
namespace {

using Mode = server::Consistency::Mode;

struct Case {
  const char* name;
  server::Consistency consistency;
};

class RanksThatGoAlone : public testing::TestWithParam<std::tuple<Case, int>> {
 protected:
  static Case mode() { return std::get<0>(GetParam()); }
  static int ranks() { return std::get<1>(GetParam()); }

  static std::unique_ptr<Strategy> strategy(Communicator& world, StrategyOptions options = {}) {
    return through_server(world, server::embedded(world),
                          {.world = options, .consistency = mode().consistency});
  }
};

// y = 2 x0 - 3 x1 + 0.5, without noise: the least squares are exact.
struct Line {
  static at::Tensor inputs(std::int64_t rank, int step) {
    return at::tensor({static_cast<float>((rank * 7 + step * 3) % 5) - 2,
                       static_cast<float>((rank * 5 + step) % 7) - 3, 1.0F, -1.0F})
        .view({2, 2});
  }
  static at::Tensor targets(const at::Tensor& x) {
    return (x.select(1, 0) * 2 - x.select(1, 1) * 3 + 0.5).unsqueeze(1);
  }
};

TEST_P(RanksThatGoAlone, LearnALineExactly) {
  test::run_ranks(ranks(), [](Communicator& world) {
    torch::nn::Linear model(2, 1);
    if (world.rank() > 0) model->weight.data().fill_(99);  // what rank 0 has is what counts
    const auto strategy = RanksThatGoAlone::strategy(world);
    Sgd sgd(strategy->attach(*model), {.lr = 0.05});
    EXPECT_TRUE(strategy->ranks_go_alone());
    constexpr int kSteps = 1500;
    for (std::int64_t step = 0; step < kSteps; ++step) {
      strategy->begin();
      const at::Tensor x = Line::inputs(world.rank(), static_cast<int>(step));
      torch::mse_loss(model->forward(x), Line::targets(x)).backward();
      strategy->reduce_gradients();
      strategy->update(sgd);
      step += strategy->missed_steps();
      if (step + 1 >= kSteps) strategy->ask_to_be_in_step();
      strategy->publish_parameters();
    }
    if (world.rank() > 0) return;
    EXPECT_NEAR(model->weight[0][0].item<float>(), 2, 1e-3);
    EXPECT_NEAR(model->weight[0][1].item<float>(), -3, 1e-3);
    EXPECT_NEAR(model->bias[0].item<float>(), 0.5, 1e-3);
  });
}

// Gradients of one, so that the parameters count the pushes.
TEST_P(RanksThatGoAlone, EndWithEveryPushOfEveryRank) {
  if (mode().consistency.backup_workers > 0) return;  // some are dropped
  test::run_ranks(ranks(), [](Communicator& world) {
    torch::nn::Linear model(torch::nn::LinearOptions(40, 1).bias(false));
    model->weight.data().zero_();
    const auto strategy = RanksThatGoAlone::strategy(world);
    Sgd sgd(strategy->attach(*model), {.lr = 1});
    constexpr int kSteps = 30;
    for (int step = 0; step < kSteps; ++step) {
      strategy->begin();
      model->forward(at::ones({1, 40})).sum().backward();
      strategy->reduce_gradients();
      EXPECT_FLOAT_EQ(strategy->gradient_norm(), std::sqrt(40.0));
      strategy->update(sgd);
      if (step + 1 == kSteps) strategy->ask_to_be_in_step();
      strategy->publish_parameters();
    }
    if (world.rank() > 0) return;
    EXPECT_TRUE(model->weight.equal(at::full({1, 40}, -kSteps * world.size()))) << model->weight;
  });
}

TEST_P(RanksThatGoAlone, DoNotWaitForOneThatIsSlow) {
  if (ranks() < 3 || mode().consistency.mode == Mode::kBounded) return;
  test::run_ranks(ranks(), [](Communicator& world) {
    torch::nn::Linear model(2, 1);
    const auto strategy = RanksThatGoAlone::strategy(world);
    Sgd sgd(strategy->attach(*model), {.lr = 0.01});
    const bool slow = world.rank() == world.size() - 1;
    std::int64_t own_steps = 0;
    constexpr int kSteps = 40;
    for (std::int64_t step = 0; step < kSteps; ++step) {
      if (slow) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      strategy->begin();
      model->forward(at::ones({1, 2})).sum().backward();
      strategy->reduce_gradients();
      strategy->update(sgd);
      ++own_steps;
      step += strategy->missed_steps();
      if (step + 1 >= kSteps) strategy->ask_to_be_in_step();
      strategy->publish_parameters();
    }
    // With backup workers the slow one leaves out what the others did without it.
    if (mode().consistency.backup_workers > 0 && slow) {
      EXPECT_LT(own_steps, kSteps);
    } else if (mode().consistency.mode == Mode::kAsynchronous) {
      EXPECT_EQ(own_steps, kSteps);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(
    Ranks, RanksThatGoAlone,
    testing::Combine(testing::Values(Case{"Asynchronous", {.mode = Mode::kAsynchronous}},
                                     Case{"Bounded", {.mode = Mode::kBounded, .staleness = 2}},
                                     Case{"Backup",
                                          {.mode = Mode::kSynchronous, .backup_workers = 1}}),
                     testing::Values(2, 3, 4)),
    [](const auto& info) {
      return std::string(std::get<0>(info.param).name) + std::to_string(std::get<1>(info.param));
    });

}  // namespace
}  // namespace trireme
