// The snippets of docs/guides/coming-from-ddp.md, at several numbers of ranks, against libtorch on
// one process and the whole batch.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "tests/comm/rank_counts.h"
#include "tests/comm/ranks.h"
#include "tests/formats/temporary_folder.h"
#include "tests/tensor/random_tensor.h"
#include "trireme/trireme.h"

namespace trireme {
namespace {

constexpr std::int64_t kRows = 24;
constexpr int kSteps = 5;

using test::random_tensor;

void fill(torch::nn::Module& module, std::uint64_t seed = 1) {
  const torch::NoGradGuard no_grad;
  for (torch::Tensor& p : module.parameters()) p.copy_(random_tensor(p.sizes(), seed++) * 0.5);
}

struct NetImpl : torch::nn::Module {
  NetImpl() {
    backbone = register_module("backbone", torch::nn::Linear(4, 8));
    norm = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({8})));
    head = register_module("head", torch::nn::Linear(8, 1));
    fill(*this);
  }
  torch::Tensor forward(const torch::Tensor& x) { return head(torch::tanh(norm(backbone(x)))); }
  torch::nn::Linear backbone{nullptr}, head{nullptr};
  torch::nn::LayerNorm norm{nullptr};
};
TORCH_MODULE(Net);

torch::Tensor all_inputs() {
  return random_tensor({kRows, 4}, 100);
}

torch::Tensor all_targets() {
  return all_inputs().sum(1, true);
}

// The rows of one rank.
torch::Tensor part_of(const torch::Tensor& rows, const Communicator& world) {
  return rows.chunk(world.size())[static_cast<std::size_t>(world.rank())];
}

// Collective: ranks may share the memory of the model, which goes with it.
void expect_near(Communicator& world, const torch::nn::Module& model,
                 const torch::nn::Module& reference) {
  const auto own = model.named_parameters(), other = reference.named_parameters();
  for (const auto& item : other) {
    EXPECT_TRUE(own[item.key()].allclose(item.value(), 1e-4, 1e-5)) << item.key() << "\n"
                                                                    << own[item.key()] << "\n"
                                                                    << item.value();
  }
  world.barrier();
}

// `change` is called between backward and step(). Returns the loss of the last step.
template <class Optimizer>
double train_alone(
    Net& model, Optimizer& optimizer, const std::function<void()>& change = [] {}) {
  double last_loss = 0;
  for (int step = 0; step < kSteps; ++step) {
    optimizer.zero_grad();
    const auto loss = torch::mse_loss(model->forward(all_inputs()), all_targets());
    loss.backward();
    change();
    optimizer.step();
    last_loss = loss.template item<double>();
  }
  return last_loss;
}

class ComingFromDdp : public testing::TestWithParam<int> {
 protected:
  static void on_ranks(const test::RankFunction& body) {
    test::run_ranks(GetParam(), [&](Communicator& world) {
      body(world);
      world.barrier();
    });
  }
};

TEST_P(ComingFromDdp, Wrapping) {
  Net reference;
  torch::optim::SGD sgd(reference->parameters(), 0.1);
  const double last_loss = train_alone(reference, sgd);
  on_ranks([&](Communicator& world) {
    const int steps = kSteps;
    const auto x = part_of(all_inputs(), world), y = part_of(all_targets(), world);
    Net model;
    if (world.rank() > 0) fill(*model, 77);
    auto strategy = trireme::replicated(world);
    strategy->attach(*model);
    torch::optim::SGD optimizer(model->parameters(), 0.1);

    std::vector<double> losses;
    for (int step = 0; step < steps; ++step) {
      strategy->begin();
      strategy->backward(torch::mse_loss(model->forward(x), y));
      losses.push_back(strategy->reduce_gradients().loss);
      strategy->update(optimizer);
    }
    EXPECT_NEAR(losses.back(), last_loss, 1e-4 * last_loss);
    expect_near(world, *model, *reference);
  });
}

TEST_P(ComingFromDdp, Accumulation) {
  Net reference;
  torch::optim::SGD sgd(reference->parameters(), 0.1);
  train_alone(reference, sgd);
  on_ranks([&](Communicator& world) {
    const auto x = part_of(all_inputs(), world).chunk(4),
               y = part_of(all_targets(), world).chunk(4);
    Net model;
    const int passes = 4;
    auto strategy = trireme::replicated(world, {.virtual_workers = passes * world.size()});
    strategy->attach(*model);
    torch::optim::SGD optimizer(model->parameters(), 0.1);
    for (int step = 0; step < kSteps; ++step) {
      strategy->begin();
      for (int i = 0; i < passes; ++i) {
        strategy->backward(torch::mse_loss(model->forward(x[i]), y[i]));
      }
      strategy->reduce_gradients();
      strategy->update(optimizer);
    }
    expect_near(world, *model, *reference);
  });
}

TEST_P(ComingFromDdp, Freezing) {
  Net reference;
  for (torch::Tensor& p : reference->backbone->parameters()) p.requires_grad_(false);
  torch::optim::SGD sgd(reference->parameters(), 0.1);
  train_alone(reference, sgd);
  for (torch::Tensor& p : reference->backbone->parameters()) p.requires_grad_(true);
  train_alone(reference, sgd);
  on_ranks([&](Communicator& world) {
    const auto x = part_of(all_inputs(), world), y = part_of(all_targets(), world);
    Net model;
    auto strategy = trireme::replicated(world);
    strategy->attach(*model);
    torch::optim::SGD optimizer(model->parameters(), 0.1);
    const auto train = [&] {
      for (int step = 0; step < kSteps; ++step) {
        strategy->begin();
        strategy->backward(torch::mse_loss(model->forward(x), y));
        strategy->reduce_gradients();
        strategy->update(optimizer);
      }
    };
    for (torch::Tensor& p : model->backbone->parameters()) p.requires_grad_(false);
    train();
    for (torch::Tensor& p : model->backbone->parameters()) p.requires_grad_(true);
    train();
    expect_near(world, *model, *reference);
  });
}

struct Autoencoder : torch::nn::Module {
  Autoencoder() {
    encoder = register_module("encoder", torch::nn::Linear(4, 3));
    decoder_weight = register_parameter("decoder_weight", encoder->weight);
  }
  torch::Tensor forward(const torch::Tensor& x) {
    return torch::matmul(torch::tanh(encoder(x)), decoder_weight);
  }
  torch::nn::Linear encoder{nullptr};
  torch::Tensor decoder_weight;
};

TEST_P(ComingFromDdp, TiedWeights) {
  Autoencoder reference;
  fill(*reference.encoder);
  torch::optim::SGD sgd(reference.encoder->parameters(), 0.1);
  for (int step = 0; step < kSteps; ++step) {
    sgd.zero_grad();
    torch::mse_loss(reference.forward(all_inputs()), all_inputs()).backward();
    sgd.step();
  }
  on_ranks([&](Communicator& world) {
    const auto x = part_of(all_inputs(), world);
    Autoencoder model;
    fill(*model.encoder);
    auto strategy = trireme::host_shared(world);
    trireme::Sgd optimizer(strategy->attach(model), {.lr = 0.1});
    for (int step = 0; step < kSteps; ++step) {
      strategy->begin();
      strategy->backward(torch::mse_loss(model.forward(x), x));
      strategy->reduce_gradients();
      strategy->update(optimizer);
    }
    expect_near(world, model, reference);
  });
}

// The weights decay in AdamW, biases and normalization do not, and the head learns faster.
std::vector<torch::optim::OptimizerParamGroup> groups_of(Net& model) {
  using Options = torch::optim::AdamWOptions;
  std::vector<torch::optim::OptimizerParamGroup> groups;
  const auto add = [&](std::vector<torch::Tensor> parameters, double lr, double decay) {
    groups.emplace_back(std::move(parameters),
                        std::make_unique<Options>(Options(lr).weight_decay(decay)));
  };
  add({model->backbone->weight, model->head->weight}, 1e-3, 0.1);
  add({model->backbone->bias, model->norm->weight, model->norm->bias, model->head->bias}, 1e-3, 0);
  return groups;
}

TEST_P(ComingFromDdp, ParameterGroupsOfLibtorch) {
  Net reference;
  torch::optim::AdamW adamw(groups_of(reference));
  train_alone(reference, adamw);
  on_ranks([&](Communicator& world) {
    const auto x = part_of(all_inputs(), world), y = part_of(all_targets(), world);
    Net model;
    auto strategy = trireme::replicated(world);
    strategy->attach(*model);
    torch::optim::AdamW optimizer(groups_of(model));  // as without trireme
    for (int step = 0; step < kSteps; ++step) {
      strategy->begin();
      strategy->backward(torch::mse_loss(model->forward(x), y));
      strategy->reduce_gradients();
      strategy->update(optimizer);
    }
    expect_near(world, *model, *reference);
  });
}

TEST_P(ComingFromDdp, ParameterGroups) {
  Net reference;
  torch::optim::AdamW adamw(groups_of(reference));
  train_alone(reference, adamw);
  on_ranks([&](Communicator& world) {
    const auto x = part_of(all_inputs(), world), y = part_of(all_targets(), world);
    Net model;
    auto strategy = trireme::host_shared(world);
    trireme::OptimizerOptions options{.name = "adamw", .lr = 1e-3, .weight_decay = 0.1};
    options.groups = {{.kind = "bias_and_norm", .weight_decay = 0}};
    trireme::prepare_groups(trireme::tensors_of(*model), options.groups);
    auto optimizer = trireme::make_optimizer(options, strategy->attach(*model));
    for (int step = 0; step < kSteps; ++step) {
      strategy->begin();
      strategy->backward(torch::mse_loss(model->forward(x), y));
      strategy->reduce_gradients();
      strategy->update(*optimizer);
    }
    expect_near(world, *model, *reference);
  });
}

struct Networks {
  torch::nn::Linear generator{3, 4};
  torch::nn::Sequential discriminator{torch::nn::Linear(4, 8), torch::nn::Tanh(),
                                      torch::nn::Linear(8, 1)};
  Networks() {
    fill(*generator, 5);
    fill(*discriminator, 9);
  }
};

torch::Tensor loss_against(const torch::Tensor& logits, double label) {
  return torch::binary_cross_entropy_with_logits(logits, torch::full_like(logits, label));
}

TEST_P(ComingFromDdp, SeveralModels) {
  const auto all_noise = random_tensor({kRows, 3}, 300);
  Networks reference;
  torch::optim::SGD sgd_g(reference.generator->parameters(), 0.2);
  torch::optim::SGD sgd_d(reference.discriminator->parameters(), 0.2);
  for (int step = 0; step < kSteps; ++step) {
    const auto fake = reference.generator->forward(all_noise);
    sgd_d.zero_grad();
    (loss_against(reference.discriminator->forward(all_inputs()), 1) +
     loss_against(reference.discriminator->forward(fake.detach()), 0))
        .backward();
    sgd_d.step();
    sgd_g.zero_grad();
    loss_against(reference.discriminator->forward(fake), 1).backward();
    sgd_g.step();
  }
  on_ranks([&](Communicator& world) {
    const auto real = part_of(all_inputs(), world), noise = part_of(all_noise, world);
    Networks networks;
    auto& [generator, discriminator] = networks;
    auto of_generator = trireme::replicated(world);
    auto of_discriminator = trireme::replicated(world);
    of_generator->attach(*generator);
    of_discriminator->attach(*discriminator);
    torch::optim::SGD g_optimizer(generator->parameters(), 0.2);
    torch::optim::SGD d_optimizer(discriminator->parameters(), 0.2);

    for (int step = 0; step < kSteps; ++step) {
      of_discriminator->begin();
      const auto fake = generator->forward(noise).detach();
      of_discriminator->backward(loss_against(discriminator->forward(real), 1) +
                                 loss_against(discriminator->forward(fake), 0));
      of_discriminator->reduce_gradients();
      of_discriminator->update(d_optimizer);

      for (torch::Tensor& p : discriminator->parameters()) p.requires_grad_(false);
      of_generator->begin();
      of_generator->backward(loss_against(discriminator->forward(generator->forward(noise)), 1));
      of_generator->reduce_gradients();
      of_generator->update(g_optimizer);
      for (torch::Tensor& p : discriminator->parameters()) p.requires_grad_(true);
    }
    expect_near(world, *generator, *reference.generator);
    expect_near(world, *discriminator, *reference.discriminator);
  });
}

// Rank r uses the r-th expert alone: the others have no gradient there.
TEST_P(ComingFromDdp, UnusedParameters) {
  on_ranks([&](Communicator& world) {
    torch::nn::ModuleList experts;
    for (int i = 0; i < 4; ++i) experts->push_back(torch::nn::Linear(4, 1));
    fill(*experts);
    const auto before = experts[3]->parameters()[0].clone();
    const auto x = part_of(all_inputs(), world), y = part_of(all_targets(), world);
    auto strategy = trireme::replicated(world);
    strategy->attach(*experts);
    torch::optim::SGD optimizer(experts->parameters(),
                                torch::optim::SGDOptions(0.1).weight_decay(0.1));
    const auto used = static_cast<std::size_t>(world.rank());
    const auto own = experts[used]->parameters()[0].clone();
    strategy->begin();
    strategy->backward(torch::mse_loss(experts->at<torch::nn::LinearImpl>(used).forward(x), y));
    strategy->reduce_gradients();
    strategy->update(optimizer);
    EXPECT_FALSE(experts[used]->parameters()[0].equal(own));
    EXPECT_TRUE(experts[3]->parameters()[0].equal(before)) << "no rank has used it";
  });
}

TEST_P(ComingFromDdp, Buffers) {
  on_ranks([&](Communicator& world) {
    torch::nn::BatchNorm1d model(4);
    const auto x = part_of(all_inputs(), world);
    auto strategy = trireme::replicated(world, {.buffers = trireme::BufferUpdate::kFirst});
    strategy->attach(*model);
    torch::optim::SGD optimizer(model->parameters(), 0.1);
    strategy->begin();
    strategy->backward(model->forward(x).square().mean());
    strategy->reduce_gradients();
    strategy->update(optimizer);
    const auto first = all_inputs().chunk(world.size())[0];
    EXPECT_TRUE(model->running_mean.allclose(0.1 * first.mean(0), 1e-5, 1e-6));
  });
}

TEST_P(ComingFromDdp, UnevenBatches) {
  const std::int64_t samples = 23;  // batches of 5, 5, 5, 5 and 3
  const auto sampler_of = [&](int virtual_workers) {
    return random_sampler(
        {.samples = samples, .global_batch = 5, .virtual_workers = virtual_workers, .seed = 1});
  };
  Net reference;
  torch::optim::SGD sgd(reference->parameters(), 0.1);
  std::vector<std::int64_t> mine;
  for (int step = 0; step < kSteps; ++step) {
    sampler_of(1)->indices(step, 0, mine);
    sgd.zero_grad();
    const auto rows = torch::tensor(mine);
    torch::mse_loss(reference->forward(all_inputs().index_select(0, rows)),
                    all_targets().index_select(0, rows))
        .backward();
    sgd.step();
  }
  on_ranks([&](Communicator& world) {
    const int steps = kSteps;
    const std::uint64_t seed = 1;
    const auto inputs = all_inputs(), targets = all_targets();
    Net model;
    auto strategy = trireme::replicated(world);
    strategy->attach(*model);
    torch::optim::SGD optimizer(model->parameters(), 0.1);
    auto sampler = trireme::random_sampler(
        {.samples = samples, .global_batch = 5, .virtual_workers = world.size(), .seed = seed});
    std::vector<std::int64_t> mine;
    for (int step = 0; step < steps; ++step) {
      sampler->indices(step, world.rank(), mine);
      const auto rows = torch::tensor(mine);
      strategy->begin(
          {.passes = mine.empty() ? 0 : 1, .weight = static_cast<double>(sampler->count(step))});
      if (!mine.empty()) {
        strategy->backward(torch::mse_loss(model->forward(inputs.index_select(0, rows)),
                                           targets.index_select(0, rows), torch::Reduction::Sum));
      }
      strategy->reduce_gradients();
      strategy->update(optimizer);
    }
    expect_near(world, *model, *reference);
  });
}

TEST_P(ComingFromDdp, ClippingWithLibtorch) {
  Net reference;
  torch::optim::SGD sgd(reference->parameters(), 0.1);
  train_alone(reference, sgd,
              [&] { torch::nn::utils::clip_grad_norm_(reference->parameters(), 0.1); });
  on_ranks([&](Communicator& world) {
    const auto x = part_of(all_inputs(), world), y = part_of(all_targets(), world);
    Net model;
    auto strategy = trireme::replicated(world);
    strategy->attach(*model);
    torch::optim::SGD optimizer(model->parameters(), 0.1);
    for (int step = 0; step < kSteps; ++step) {
      strategy->begin();
      strategy->backward(torch::mse_loss(model->forward(x), y));
      strategy->reduce_gradients();
      torch::nn::utils::clip_grad_norm_(model->parameters(), 0.1);
      strategy->update(optimizer);
    }
    expect_near(world, *model, *reference);
  });
}

TEST_P(ComingFromDdp, ClippingWithAnyStrategy) {
  Net reference;
  torch::optim::SGD sgd(reference->parameters(), 0.1);
  train_alone(reference, sgd,
              [&] { torch::nn::utils::clip_grad_norm_(reference->parameters(), 0.1); });
  on_ranks([&](Communicator& world) {
    const auto x = part_of(all_inputs(), world), y = part_of(all_targets(), world);
    Net model;
    auto strategy = trireme::host_shared(world);
    trireme::Sgd optimizer(strategy->attach(*model), {.lr = 0.1});
    for (int step = 0; step < kSteps; ++step) {
      strategy->begin();
      strategy->backward(torch::mse_loss(model->forward(x), y));
      strategy->reduce_gradients();
      optimizer.set_gradient_scale(trireme::clip_scale(strategy->gradient_norm(), 0.1));
      strategy->update(optimizer);
    }
    expect_near(world, *model, *reference);
  });
}

TEST_P(ComingFromDdp, SchedulesOfLibtorch) {
  Net reference;
  torch::optim::SGD sgd(reference->parameters(), 0.2);
  torch::optim::StepLR step_lr(sgd, 2, 0.5);
  for (int step = 0; step < kSteps; ++step) {
    sgd.zero_grad();
    torch::mse_loss(reference->forward(all_inputs()), all_targets()).backward();
    sgd.step();
    step_lr.step();
  }
  on_ranks([&](Communicator& world) {
    const auto x = part_of(all_inputs(), world), y = part_of(all_targets(), world);
    Net model;
    auto strategy = trireme::replicated(world);
    strategy->attach(*model);
    torch::optim::SGD optimizer(model->parameters(), 0.2);
    torch::optim::StepLR scheduler(optimizer, 2, 0.5);
    for (int step = 0; step < kSteps; ++step) {
      strategy->begin();
      strategy->backward(torch::mse_loss(model->forward(x), y));
      strategy->reduce_gradients();
      strategy->update(optimizer);
      scheduler.step();
    }
    expect_near(world, *model, *reference);
  });
}

TEST_P(ComingFromDdp, Schedules) {
  Net reference;
  torch::optim::SGD sgd(reference->parameters(), 0.2);
  for (int step = 0; step < kSteps; ++step) {
    sgd.param_groups()[0].options().set_lr(0.2 * std::pow(0.5, step / 2));
    sgd.zero_grad();
    torch::mse_loss(reference->forward(all_inputs()), all_targets()).backward();
    sgd.step();
  }
  on_ranks([&](Communicator& world) {
    const auto x = part_of(all_inputs(), world), y = part_of(all_targets(), world);
    Net model;
    auto strategy = trireme::host_shared(world);
    trireme::Sgd optimizer(strategy->attach(*model), {.lr = 0.2});
    const auto schedule =
        trireme::make_schedule({.name = "step", .lr = 0.2, .step_size = 2, .gamma = 0.5});
    for (int step = 0; step < kSteps; ++step) {
      strategy->begin();
      strategy->backward(torch::mse_loss(model->forward(x), y));
      strategy->reduce_gradients();
      optimizer.set_lr(schedule->lr_at(step));
      strategy->update(optimizer);
    }
    expect_near(world, *model, *reference);
  });
}

TEST_P(ComingFromDdp, SavingAndLoading) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "model.safetensors";
  Net reference;
  fill(*reference, 40);
  on_ranks([&](Communicator& world) {
    {
      Net model;
      if (world.rank() == 0) fill(*model, 40);
      auto strategy = trireme::replicated(world);
      strategy->attach(*model);
      if (world.rank() == 0) trireme::save_model(path, trireme::tensors_of(*model));
      world.barrier();
    }
    Net model;
    trireme::load_model(path, trireme::tensors_of(*model));
    auto strategy = trireme::replicated(world);
    strategy->attach(*model);
    expect_near(world, *model, *reference);
  });
}

TEST_P(ComingFromDdp, Evaluation) {
  on_ranks([&](Communicator& world) {
    const auto inputs = all_inputs(), targets = all_targets();
    Net model;
    const trireme::Range mine = trireme::partition(inputs.size(0), world.size(), world.rank());
    model->eval();
    torch::Tensor sums = torch::zeros({2}, torch::kDouble);
    {
      const torch::NoGradGuard no_grad;
      const auto outputs = model->forward(inputs.slice(0, mine.begin, mine.end));
      const auto errors = (outputs - targets.slice(0, mine.begin, mine.end)).square();
      sums[0] = errors.sum();
      sums[1] = errors.numel();
    }
    model->train();
    trireme::all_reduce(world, sums).wait();
    const double mean_squared_error = (sums[0] / sums[1]).item<double>();
    EXPECT_NEAR(mean_squared_error, torch::mse_loss(model->forward(inputs), targets).item<double>(),
                1e-6);
  });
}

INSTANTIATE_TEST_SUITE_P(OnRanks, ComingFromDdp, testing::ValuesIn(test::rank_counts({1, 2, 3})),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace trireme
