#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn/modules/batchnorm.h>

#include <functional>
#include <vector>

#include "tests/comm/ranks.h"
#include "tests/tensor/random_tensor.h"
#include "trireme/comm/self/self.h"
#include "trireme/model/model.h"
#include "trireme/optim/sgd.h"
#include "trireme/parallel/replicated.h"

namespace trireme {
namespace {

using test::random_tensor;

constexpr std::int64_t kWidth = 6;
constexpr std::int64_t kSamples = 5;
constexpr int kBlocks = 4;
constexpr int kMicroBatches = 2;
constexpr int kSteps = 3;

// Weight gradients that a backward pass defers, as in a zero-bubble pipeline.
struct WeightGradients {
  std::vector<std::function<void()>> deferred;
  GradientSink* sink = nullptr;  // of the step
  int micro_batch = 0;           // of the pass

  void flush() {
    for (const auto& compute : deferred) compute();
    deferred.clear();
  }
};

// x W^T, whose backward pass computes the gradient of x alone.
class DeferredLinear : public torch::autograd::Function<DeferredLinear> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight, int parameter, WeightGradients* gradients) {
    context->save_for_backward({x});
    context->saved_data["weight"] = weight;
    context->saved_data["parameter"] = parameter;
    context->saved_data["gradients"] = reinterpret_cast<std::int64_t>(gradients);
    return x.mm(weight.t());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list outer) {
    auto* gradients = reinterpret_cast<WeightGradients*>(context->saved_data["gradients"].toInt());
    const int parameter = static_cast<int>(context->saved_data["parameter"].toInt());
    const at::Tensor x = context->get_saved_variables()[0];
    gradients->deferred.push_back(
        [gradients, parameter, micro_batch = gradients->micro_batch, x, gradient = outer[0]] {
          gradients->sink->add(parameter, micro_batch, gradient.t().mm(x));
        });
    return {outer[0].mm(context->saved_data["weight"].toTensor()), {}, {}, {}};
  }
};

// tanh(norm(x W^T)): the gradient of the weight is deferred; the gradients of batch normalization
// come from autograd, and its buffers change in the forward pass.
class DeferredBlock final : public Block {
 public:
  DeferredBlock(int index, int parameter, WeightGradients& gradients)
      : name_("block" + std::to_string(index) + "."),
        parameter_(parameter),
        gradients_(gradients),
        weight_(random_tensor({kWidth, kWidth}, static_cast<std::uint64_t>(index)).mul_(0.5)) {
    weight_.set_requires_grad(true);
  }

  at::Tensor forward(const at::Tensor& x) override {
    const at::Tensor input = x.requires_grad() ? x : x.detach().requires_grad_();
    return norm_(DeferredLinear::apply(input, weight_.detach(), parameter_, &gradients_)).tanh();
  }

  NamedTensors tensors() const override {
    NamedTensors tensors{{{name_ + "linear", weight_}}, {}};
    for (const auto& [name, tensor] : tensors_of(*norm_).parameters) {
      tensors.parameters.emplace_back(name_ + name, tensor);
    }
    for (const auto& [name, tensor] : tensors_of(*norm_).buffers) {
      tensors.buffers.emplace_back(name_ + name, tensor);
    }
    return tensors;
  }

  void train(bool on) override { norm_->train(on); }

 private:
  std::string name_;
  int parameter_;
  WeightGradients& gradients_;
  at::Tensor weight_;
  torch::nn::BatchNorm1d norm_{kWidth};
};

std::unique_ptr<Model> model_of(Range blocks, WeightGradients& gradients) {
  std::vector<std::unique_ptr<Block>> made;
  for (std::int64_t b = blocks.begin; b < blocks.end; ++b) {
    const int parameter = 3 * static_cast<int>(b - blocks.begin);  // before the norm's two
    made.push_back(std::make_unique<DeferredBlock>(static_cast<int>(b), parameter, gradients));
  }
  return std::make_unique<Model>(std::move(made));
}

at::Tensor input_of(int step, int micro_batch) {
  return random_tensor({kSamples, kWidth},
                       static_cast<std::uint64_t>(100 + kMicroBatches * step + micro_batch));
}

at::Tensor loss_of(const at::Tensor& output) {
  return (output - 0.25).square().sum();
}

std::vector<at::Tensor> copies_of(const Model& model) {
  std::vector<at::Tensor> copies;
  const NamedTensors tensors = model.tensors();
  for (const auto* group : {&tensors.parameters, &tensors.buffers}) {
    for (const auto& [name, tensor] : *group) copies.push_back(tensor.detach().clone());
  }
  return copies;
}

// Trains the whole model in one process, and computes each weight gradient right after its backward
// pass. Returns the final tensors of `blocks`.
std::vector<at::Tensor> one_process(Range blocks) {
  WeightGradients gradients;
  const auto model = model_of({0, kBlocks}, gradients);
  const auto alone = self_communicator();
  const auto strategy = replicated(*alone, {.virtual_workers = kMicroBatches});
  Sgd sgd(strategy->attach(*model), {.lr = 0.05});
  for (int step = 0; step < kSteps; ++step) {
    gradients.sink = &strategy->begin({.weight = kMicroBatches * kSamples});
    for (int m = 0; m < kMicroBatches; ++m) {
      gradients.micro_batch = m;
      gradients.sink->set_micro_batch(m);
      const at::Tensor loss = loss_of(model->forward(input_of(step, m)));
      loss.backward();
      gradients.flush();
      gradients.sink->finish(m, loss.item<double>());
    }
    strategy->reduce_gradients();
    strategy->update(sgd);
  }
  std::vector<at::Tensor> ends;
  const NamedTensors all = model->tensors();
  for (const auto* group : {&all.parameters, &all.buffers}) {
    for (const auto& [name, tensor] : *group) {
      if (blocks.contains(name[std::string("block").size()] - '0')) ends.push_back(tensor.detach());
    }
  }
  return ends;
}

// One stage of a pipeline of two: GPipe's schedule, F0 F1 B0 B1, and then W0 W1.
class Stage {
 public:
  Stage(Communicator& pipeline, bool deferred)
      : pipeline_(pipeline),
        deferred_(deferred),
        blocks_(partition(kBlocks, pipeline.size(), pipeline.rank())),
        model_(model_of(blocks_, gradients_)),
        strategy_(replicated(*alone_, {.virtual_workers = kMicroBatches})),
        sgd_(strategy_->attach(*model_), {.lr = 0.05}) {}

  Range blocks() const { return blocks_; }
  std::vector<at::Tensor> ends() const { return copies_of(*model_); }

  double step(int step) {
    gradients_.sink = &strategy_->begin({.weight = kMicroBatches * kSamples});
    for (int m = 0; m < kMicroBatches; ++m) forward(step, m);
    for (int m = 0; m < kMicroBatches; ++m) {
      backward(m);
      if (!deferred_) gradients_.flush();
    }
    gradients_.flush();
    for (int m = 0; m < kMicroBatches; ++m) gradients_.sink->finish(m, losses_[m]);
    const double loss = strategy_->reduce_gradients().loss;
    strategy_->update(sgd_);
    return loss;
  }

 private:
  bool is_last() const { return pipeline_.rank() + 1 == pipeline_.size(); }

  void forward(int step, int m) {
    gradients_.sink->set_micro_batch(m);
    inputs_[m] = input_of(step, m);
    if (pipeline_.rank() > 0) pipeline_.recv(buffer_of(inputs_[m]), pipeline_.rank() - 1).wait();
    inputs_[m].requires_grad_();
    outputs_[m] = model_->forward(inputs_[m]);
    if (is_last()) {
      outputs_[m] = loss_of(outputs_[m]);
      losses_[m] = outputs_[m].item<double>();
    } else {
      const at::Tensor sent = outputs_[m].detach().contiguous();
      pipeline_.send(buffer_of(sent), pipeline_.rank() + 1).wait();
    }
  }

  void backward(int m) {
    gradients_.sink->set_micro_batch(m);
    gradients_.micro_batch = m;
    if (is_last()) {
      outputs_[m].backward();
    } else {
      const at::Tensor gradient = at::empty_like(outputs_[m]);
      pipeline_.recv(buffer_of(gradient), pipeline_.rank() + 1).wait();
      outputs_[m].backward(gradient);
    }
    if (pipeline_.rank() == 0) return;
    const at::Tensor sent = inputs_[m].grad().contiguous();
    pipeline_.send(buffer_of(sent), pipeline_.rank() - 1).wait();
  }

  Communicator& pipeline_;
  bool deferred_;
  Range blocks_;
  WeightGradients gradients_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Communicator> alone_ = self_communicator();  // this stage's data axis
  std::unique_ptr<Strategy> strategy_;
  Sgd sgd_;
  at::Tensor inputs_[kMicroBatches], outputs_[kMicroBatches];
  double losses_[kMicroBatches] = {};
};

class Pipeline : public testing::TestWithParam<bool> {};

TEST_P(Pipeline, OfTwoStagesHasTheBitsOfOneProcess) {
  test::run_ranks(2, [](Communicator& world) {
    Stage stage(world, GetParam());
    for (int step = 0; step < kSteps; ++step) {
      const double loss = stage.step(step);
      EXPECT_EQ(loss > 0, world.rank() == 1);
    }
    const std::vector<at::Tensor> expected = one_process(stage.blocks());
    const std::vector<at::Tensor> actual = stage.ends();
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) {
      EXPECT_TRUE(actual[i].equal(expected[i])) << i << '\n' << actual[i] << expected[i];
    }
  });
}

INSTANTIATE_TEST_SUITE_P(WeightGradients, Pipeline, testing::Bool(), [](const auto& info) {
  return info.param ? "DeferredToTheEnd" : "AfterEachBackward";
});

}  // namespace
}  // namespace trireme
