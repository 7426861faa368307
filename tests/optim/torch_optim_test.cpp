// Against torch::optim: 100 steps on the same random gradients.
#include <gtest/gtest.h>
#include <torch/optim/adagrad.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include <cmath>
#include <functional>
#include <memory>

#include "tests/optim/parameters.h"
#include "trireme/optim/adagrad.h"
#include "trireme/optim/adam.h"
#include "trireme/optim/rmsprop.h"
#include "trireme/optim/sgd.h"

namespace trireme {
namespace {

constexpr int kSteps = 100;

template <class T>
constexpr auto kTorchType = torch::kFloat32;
template <>
constexpr auto kTorchType<double> = torch::kFloat64;

// torch may fuse a multiplication with an addition, and we never do: each step can differ in the
// last bit of each of its operations. Errors are relative to the largest value that an element had
// on its way, and at least to 1: 16 f32 roundings after 100 steps.
template <class T>
constexpr double kTolerance = 0;
template <>
constexpr double kTolerance<float> = 2e-6;
template <>
constexpr double kTolerance<double> = 1e-12;

template <class T>
std::vector<torch::Tensor> tensors_like(Parameters<T>& parameters) {
  std::vector<torch::Tensor> tensors;
  for (auto& values : parameters.values()) {
    auto tensor =
        torch::from_blob(values.data(), {static_cast<std::int64_t>(values.size())}, kTorchType<T>)
            .clone();
    tensors.push_back(tensor.set_requires_grad(true));
  }
  return tensors;
}

// The largest absolute value that each element has had, at least 1.
template <class T>
class Magnitudes {
 public:
  explicit Magnitudes(Parameters<T>& parameters) {
    for (const auto& values : parameters.values()) largest_.emplace_back(values.size(), 1.0);
    watch(parameters);
  }

  void watch(Parameters<T>& parameters) {
    for (std::size_t i = 0; i < largest_.size(); ++i) {
      for (std::size_t j = 0; j < largest_[i].size(); ++j) {
        const double size = std::abs(static_cast<double>(parameters.values()[i][j]));
        largest_[i][j] = std::max(largest_[i][j], size);
      }
    }
  }

  double at(std::size_t tensor, std::size_t element) const { return largest_[tensor][element]; }

 private:
  std::vector<std::vector<double>> largest_;
};

template <class T>
void expect_equal_to_torch(
    const std::function<std::unique_ptr<Optimizer>(std::span<Shard>)>& ours,
    const std::function<std::unique_ptr<torch::optim::Optimizer>(std::vector<torch::Tensor>)>&
        theirs) {
  Parameters<T> parameters({3, 1000, 10'007});
  auto tensors = tensors_like(parameters);
  const auto optimizer = ours(parameters.shards());
  const auto reference = theirs(tensors);
  Magnitudes<T> largest(parameters);
  for (int step = 0; step < kSteps; ++step) {
    parameters.draw_gradients(static_cast<std::uint64_t>(step));
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      tensors[i].mutable_grad() =
          torch::from_blob(parameters.gradients()[i].data(), tensors[i].sizes(), kTorchType<T>);
    }
    optimizer->step();
    reference->step();
    largest.watch(parameters);
  }
  double worst = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const T* wanted = tensors[i].template data_ptr<T>();
    for (std::size_t j = 0; j < parameters.values()[i].size(); ++j) {
      const double error = std::abs(static_cast<double>(parameters.values()[i][j]) - wanted[j]);
      worst = std::max(worst, error / largest.at(i, j));
    }
  }
  EXPECT_LE(worst, kTolerance<T>);
}

template <class Ours, class Theirs, class OurOptions, class TheirOptions>
void compare(const OurOptions& our_options, const TheirOptions& their_options) {
  const auto ours = [&](std::span<Shard> shards) {
    return std::make_unique<Ours>(shards, our_options);
  };
  const auto theirs = [&](std::vector<torch::Tensor> tensors) {
    return std::make_unique<Theirs>(std::move(tensors), their_options);
  };
  {
    SCOPED_TRACE("f32");
    expect_equal_to_torch<float>(ours, theirs);
  }
  {
    SCOPED_TRACE("f64");
    expect_equal_to_torch<double>(ours, theirs);
  }
}

using torch::optim::AdagradOptions;
using torch::optim::AdamOptions;
using torch::optim::AdamWOptions;
using torch::optim::RMSpropOptions;
using torch::optim::SGDOptions;

void compare_sgd(SgdOptions ours, SGDOptions theirs) {
  compare<Sgd, torch::optim::SGD>(ours, theirs);
}

TEST(TorchOptim, SgdAgrees) {
  compare_sgd({.lr = 0.01}, SGDOptions(0.01));
}

TEST(TorchOptim, SgdWithWeightDecayAgrees) {
  compare_sgd({.lr = 0.01, .weight_decay = 0.1}, SGDOptions(0.01).weight_decay(0.1));
}

TEST(TorchOptim, SgdWithMomentumAndDampeningAgrees) {
  compare_sgd({.lr = 0.01, .momentum = 0.9, .dampening = 0.3, .weight_decay = 0.1},
              SGDOptions(0.01).momentum(0.9).dampening(0.3).weight_decay(0.1));
}

TEST(TorchOptim, SgdWithNesterovAgrees) {
  compare_sgd({.lr = 0.01, .momentum = 0.9, .nesterov = true},
              SGDOptions(0.01).momentum(0.9).nesterov(true));
}

TEST(TorchOptim, AdamAgrees) {
  compare<Adam, torch::optim::Adam>(trireme::AdamOptions{}, AdamOptions());
}

TEST(TorchOptim, AdamWithEveryOptionAgrees) {
  compare<Adam, torch::optim::Adam>(
      trireme::AdamOptions{
          .lr = 0.01, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-6, .weight_decay = 0.1},
      AdamOptions(0.01).betas({0.8, 0.95}).eps(1e-6).weight_decay(0.1));
}

TEST(TorchOptim, AdamWAgrees) {
  compare<AdamW, torch::optim::AdamW>(trireme::AdamWOptions{}, AdamWOptions());
  compare<AdamW, torch::optim::AdamW>(trireme::AdamWOptions{.lr = 0.01, .weight_decay = 0.3},
                                      AdamWOptions(0.01).weight_decay(0.3));
}

TEST(TorchOptim, RmspropAgrees) {
  compare<Rmsprop, torch::optim::RMSprop>(RmspropOptions{}, RMSpropOptions());
}

TEST(TorchOptim, RmspropCenteredWithMomentumAgrees) {
  compare<Rmsprop, torch::optim::RMSprop>(
      RmspropOptions{.lr = 1e-3,
                     .alpha = 0.9,
                     .eps = 1e-3,
                     .weight_decay = 0.1,
                     .momentum = 0.9,
                     .centered = true},
      RMSpropOptions(1e-3).alpha(0.9).eps(1e-3).weight_decay(0.1).momentum(0.9).centered(true));
}

TEST(TorchOptim, AdagradAgrees) {
  compare<Adagrad, torch::optim::Adagrad>(trireme::AdagradOptions{}, AdagradOptions());
}

TEST(TorchOptim, AdagradWithEveryOptionAgrees) {
  compare<Adagrad, torch::optim::Adagrad>(
      trireme::AdagradOptions{
          .lr = 0.1, .lr_decay = 0.01, .weight_decay = 0.1, .initial_accumulator = 0.5},
      AdagradOptions(0.1).lr_decay(0.01).weight_decay(0.1).initial_accumulator_value(0.5));
}

}  // namespace
}  // namespace trireme
