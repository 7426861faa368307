#include "trireme/train/step_runner.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>

#include "trireme/base/error.h"
#include "trireme/comm/self/self.h"
#include "trireme/model/module_block.h"
#include "trireme/optim/sgd.h"
#include "trireme/parallel/replicated.h"

namespace trireme {
namespace {

using Kind = plan::Action::Kind;
using testing::HasSubstr;
using testing::ThrowsMessage;

// One rank that trains a small network with dropout for some steps.
class OneRank {
 public:
  OneRank()
      : loss_(make_loss(Target::numbers(2))),
        model_(make_network()),
        world_(self_communicator()),
        strategy_(replicated(*world_, {.virtual_workers = 4})),
        optimizer_(strategy_->attach(*model_), {.lr = 0.1}),
        runner_(*model_, loss_, *strategy_, 1) {}

  double step(const StepBatches& batches, const plan::Schedule& schedule) {
    runner_.run(batches, schedule, false);
    const double loss = strategy_->reduce_gradients().loss;
    EXPECT_EQ(strategy_->update(optimizer_).loss, loss);
    return loss;
  }

  at::Tensor weight() const { return model_->tensors().parameters[0].second; }

 private:
  static std::unique_ptr<Model> make_network() {
    at::manual_seed(3);
    return model_of(torch::nn::Sequential(torch::nn::Linear(3, 5), torch::nn::Tanh(),
                                          torch::nn::Dropout(0.5), torch::nn::Linear(5, 2)));
  }

  Loss loss_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Communicator> world_;
  std::unique_ptr<Strategy> strategy_;
  Sgd optimizer_;
  StepRunner runner_;
};

StepBatches batches_of(std::int64_t step) {
  at::manual_seed(static_cast<std::uint64_t>(step));
  StepBatches batches{.step = step, .samples = 8, .weight = 8};
  for (int worker = 0; worker < 4; ++worker) {
    batches.batches.emplace_back(at::randn({2, 3}), at::randn({2, 2}));
    batches.virtual_workers.push_back(worker);
  }
  return batches;
}

TEST(StepRunner, ComputesTheSameWithAnyScheduleOfOneStage) {
  plan::Schedule all_forward_first{{{}}};
  for (const Kind kind : {Kind::kForward, Kind::kBackward}) {
    for (int m = 0; m < 4; ++m) all_forward_first.stages[0].push_back({kind, m});
  }
  plan::check(all_forward_first, 4);
  OneRank plain, other;
  for (std::int64_t step = 0; step < 5; ++step) {
    const StepBatches batches = batches_of(step);
    EXPECT_EQ(plain.step(batches, plan::single_stage(4)), other.step(batches, all_forward_first));
  }
  EXPECT_TRUE(plain.weight().equal(other.weight()));
}

TEST(StepRunner, RefusesALossThatCountsAnotherWeightThanItsBatch) {
  OneRank rank;
  StepBatches batches = batches_of(0);
  batches.batches[1].weight = 3;
  EXPECT_THAT([&] { rank.step(batches, plan::single_stage(4)); },
              ThrowsMessage<UsageError>(HasSubstr("what its batch weighs, 3, got 2")));
}

}  // namespace
}  // namespace trireme
