// Groups of parameters against torch::optim's, at several numbers of ranks and in every strategy.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adagrad.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include <functional>
#include <map>
#include <mutex>

#include "tests/comm/ranks.h"
#include "tests/tensor/random_tensor.h"
#include "trireme/optim/clip.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/parallel/host_shared.h"
#include "trireme/parallel/parameter_server.h"
#include "trireme/parallel/replicated.h"
#include "trireme/parallel/strategy.h"
#include "trireme/server/embedded/embedded.h"
#include "trireme/tensor/prepare_groups.h"

namespace trireme {
namespace {

using test::random_tensor;

constexpr int kVirtualWorkers = 6;
constexpr int kSteps = 20;
constexpr double kLr = 0.01;
constexpr double kWeightDecay = 0.1;
constexpr double kMaxNorm = 0.5;  // so small that it always clips

struct Net : torch::nn::Module {
  Net() {
    frozen = register_module("frozen", torch::nn::Linear(7, 70));
    norm = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({70})));
    body = register_module("body", torch::nn::Linear(70, 90));
    head = register_module("head", torch::nn::Linear(90, 1));
    to(at::kDouble);
    const at::NoGradGuard no_grad;
    std::uint64_t seed = 1;
    for (at::Tensor& p : parameters())
      p.copy_(random_tensor(p.sizes(), seed++, at::kDouble).mul_(0.2));
  }

  at::Tensor loss(int step, std::int64_t worker) {
    const auto seed = static_cast<std::uint64_t>(1000 + step * 100 + worker);
    const at::Tensor x = random_tensor({5, 7}, seed, at::kDouble);
    const at::Tensor y = random_tensor({5, 1}, seed + 50000, at::kDouble);
    return torch::mse_loss(head(body(norm(frozen(x))).tanh()), y);
  }

  torch::nn::Linear frozen{nullptr}, body{nullptr}, head{nullptr};
  torch::nn::LayerNorm norm{nullptr};
};

using Values = std::map<std::string, at::Tensor>;

Values values_of(const Net& net) {
  Values values;
  for (const auto& item : net.named_parameters())
    values[item.key()] = item.value().detach().clone();
  return values;
}

// What torch's optimizer is told of some parameters.
struct TorchGroup {
  std::vector<at::Tensor> parameters;
  double lr = kLr;
  double weight_decay = kWeightDecay;
  std::pair<double, double> betas = {0.9, 0.999};
};

using MakeTorch =
    std::function<std::unique_ptr<torch::optim::Optimizer>(std::vector<TorchGroup> groups)>;

template <class Optimizer, class Options>
std::unique_ptr<torch::optim::Optimizer> torch_optimizer(
    std::vector<TorchGroup> groups, const std::function<Options(const TorchGroup&)>& options) {
  std::vector<torch::optim::OptimizerParamGroup> all;
  for (TorchGroup& group : groups) {
    all.emplace_back(group.parameters, std::make_unique<Options>(options(group)));
  }
  return std::make_unique<Optimizer>(std::move(all), options(TorchGroup()));
}

struct Case {
  std::string name;
  bool has_betas;
  MakeTorch make;
};

std::vector<Case> cases() {
  namespace to = torch::optim;
  return {
      {"sgd", false,
       [](auto groups) {
         return torch_optimizer<to::SGD, to::SGDOptions>(groups, [](const TorchGroup& g) {
           return to::SGDOptions(g.lr).momentum(0.9).weight_decay(g.weight_decay);
         });
       }},
      {"adam", true,
       [](auto groups) {
         return torch_optimizer<to::Adam, to::AdamOptions>(groups, [](const TorchGroup& g) {
           return to::AdamOptions(g.lr)
               .betas({g.betas.first, g.betas.second})
               .weight_decay(g.weight_decay);
         });
       }},
      {"adamw", true,
       [](auto groups) {
         return torch_optimizer<to::AdamW, to::AdamWOptions>(groups, [](const TorchGroup& g) {
           return to::AdamWOptions(g.lr)
               .betas({g.betas.first, g.betas.second})
               .weight_decay(g.weight_decay);
         });
       }},
      {"rmsprop", false,
       [](auto groups) {
         return torch_optimizer<to::RMSprop, to::RMSpropOptions>(groups, [](const TorchGroup& g) {
           return to::RMSpropOptions(g.lr).momentum(0.9).weight_decay(g.weight_decay);
         });
       }},
      {"adagrad", false,
       [](auto groups) {
         return torch_optimizer<to::Adagrad, to::AdagradOptions>(groups, [](const TorchGroup& g) {
           return to::AdagradOptions(g.lr).weight_decay(g.weight_decay);
         });
       }},
  };
}

// No decay on biases and norms; another rate, decay and betas for the head; one layer is frozen.
std::vector<ParameterGroup> groups_for(const Case& one) {
  ParameterGroup head{.match = "head.weight", .lr_factor = 0.25, .weight_decay = 0.5};
  if (one.has_betas) head.betas = {0.8, 0.95};
  return {{.match = "frozen.*", .trainable = false},
          {.kind = "bias_and_norm", .weight_decay = 0},
          head};
}

Values torch_reference(const Case& one) {
  Net net;
  for (at::Tensor& p : net.frozen->parameters()) p.set_requires_grad(false);
  TorchGroup no_decay{
      .parameters = {net.norm->weight, net.norm->bias, net.body->bias, net.head->bias},
      .weight_decay = 0};
  TorchGroup head{.parameters = {net.head->weight}, .lr = 0.25 * kLr, .weight_decay = 0.5};
  if (one.has_betas) head.betas = {0.8, 0.95};
  const auto optimizer = one.make({no_decay, head, {.parameters = {net.body->weight}}});
  std::vector<at::Tensor> trainable;
  for (at::Tensor& p : net.parameters()) {
    if (p.requires_grad()) trainable.push_back(p);
  }
  for (int step = 0; step < kSteps; ++step) {
    optimizer->zero_grad();
    for (int worker = 0; worker < kVirtualWorkers; ++worker) {
      (net.loss(step, worker) / kVirtualWorkers).backward();
    }
    torch::nn::utils::clip_grad_norm_(trainable, kMaxNorm);
    optimizer->step();
  }
  return values_of(net);
}

using MakeStrategy = std::function<std::unique_ptr<Strategy>(
    Communicator& world, const StrategyOptions& options, const OptimizerOptions& optimizer)>;

const std::pair<const char*, MakeStrategy> kStrategies[] = {
    {"replicated", [](Communicator& world, const StrategyOptions& options,
                      const OptimizerOptions&) { return replicated(world, options); }},
    {"host_shared", [](Communicator& world, const StrategyOptions& options,
                       const OptimizerOptions&) { return host_shared(world, options); }},
    {"parameter_server",
     [](Communicator& world, const StrategyOptions& options, const OptimizerOptions& optimizer) {
       return parameter_server(
           world, [](Communicator& workers) { return server::embedded(workers, {.shards = 2}); },
           {.world = options,
            .optimizer = optimizer,
            .consistency = {.mode = server::Consistency::Mode::kSynchronous}});
     }}};

Values train(const Case& one, const MakeStrategy& make, int ranks) {
  Values result;
  test::run_ranks(ranks, [&](Communicator& world) {
    Net net;
    OptimizerOptions options{.name = one.name,
                             .lr = kLr,
                             .weight_decay = kWeightDecay,
                             .momentum = 0.9,
                             .groups = groups_for(one)};
    options = without_other_options(std::move(options));
    prepare_groups(tensors_of(net), options.groups);
    const auto strategy = make(world, {.virtual_workers = kVirtualWorkers}, options);
    const auto optimizer = make_optimizer(options, strategy->attach(net));
    const Range mine = strategy->virtual_workers();
    for (int step = 0; step < kSteps; ++step) {
      strategy->begin();
      for (std::int64_t worker = mine.begin; worker < mine.end; ++worker) {
        strategy->backward(net.loss(step, worker));
      }
      strategy->reduce_gradients();
      optimizer->set_gradient_scale(clip_scale(strategy->gradient_norm(), kMaxNorm));
      strategy->update(*optimizer, step + 1 == kSteps ? Sync::kNow : Sync::kWhenDue);
    }
    if (world.rank() == 0) result = values_of(net);
    world.barrier();
  });
  return result;
}

TEST(TorchGroups, AgreeInEveryOptimizerAndStrategyAt1To3Ranks) {
  for (const Case& one : cases()) {
    const Values wanted = torch_reference(one);
    for (const auto& [name, make] : kStrategies) {
      for (const int ranks : {1, 2, 3}) {
        const Values got = train(one, make, ranks);
        ASSERT_EQ(got.size(), wanted.size());
        for (const auto& [parameter, values] : got) {
          const double error = (values - wanted.at(parameter)).abs().max().item<double>();
          EXPECT_LE(error, 1e-10) << one.name << ", " << name << ", " << ranks << " ranks, "
                                  << parameter;
        }
      }
    }
  }
}

TEST(TorchGroups, FrozenParametersKeepTheirValues) {
  const Values before = values_of(Net());
  for (const auto& [name, make] : kStrategies) {
    const Values after = train(cases()[2], make, 2);
    for (const char* frozen : {"frozen.weight", "frozen.bias"}) {
      EXPECT_TRUE(after.at(frozen).equal(before.at(frozen))) << name << ", " << frozen;
    }
    EXPECT_FALSE(after.at("body.weight").equal(before.at("body.weight"))) << name;
  }
}

}  // namespace
}  // namespace trireme
