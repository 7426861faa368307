#include "trireme/train/step_runner.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/batchnorm.h>
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

// One rank that trains a small network with batch normalization and dropout for some steps.
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

  NamedTensors tensors() const { return model_->tensors(); }

 private:
  static std::unique_ptr<Model> make_network() {
    at::manual_seed(3);
    return model_of(torch::nn::Sequential(torch::nn::Linear(3, 5), torch::nn::BatchNorm1d(5),
                                          torch::nn::Tanh(), torch::nn::Dropout(0.5),
                                          torch::nn::Linear(5, 2)));
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

plan::Schedule schedule_of(std::initializer_list<plan::Action> actions) {
  plan::Schedule schedule{{actions}};
  plan::check(schedule, 4);
  return schedule;
}

void expect_equal(const std::vector<NamedTensor>& actual, const std::vector<NamedTensor>& wanted) {
  ASSERT_EQ(actual.size(), wanted.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    EXPECT_TRUE(actual[i].second.equal(wanted[i].second)) << wanted[i].first;
  }
}

void expect_same_bits_as_plain(const plan::Schedule& schedule) {
  OneRank plain, other;
  for (std::int64_t step = 0; step < 5; ++step) {
    const StepBatches batches = batches_of(step);
    EXPECT_EQ(other.step(batches, schedule), plain.step(batches, plan::single_stage(4)));
  }
  expect_equal(other.tensors().parameters, plain.tensors().parameters);
  ASSERT_FALSE(plain.tensors().buffers.empty());
  expect_equal(other.tensors().buffers, plain.tensors().buffers);
}

constexpr Kind F = Kind::kForward;
constexpr Kind B = Kind::kBackward;

TEST(StepRunner, HasTheSameBitsIfAllForwardPassesComeFirst) {
  expect_same_bits_as_plain(
      schedule_of({{F, 0}, {F, 1}, {F, 2}, {F, 3}, {B, 0}, {B, 1}, {B, 2}, {B, 3}}));
}

TEST(StepRunner, HasTheSameBitsIfForwardAndBackwardPassesAlternate) {
  expect_same_bits_as_plain(
      schedule_of({{F, 0}, {F, 1}, {B, 0}, {F, 2}, {B, 1}, {F, 3}, {B, 2}, {B, 3}}));
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
