#include "trireme/model/make_model.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "trireme/base/error.h"
#include "trireme/model/layers.h"
#include "trireme/model/loss.h"

namespace trireme {
namespace {

using testing::HasSubstr;

const std::vector<std::int64_t> kImage = {1, 8, 8};

ModelOptions named(std::string name) {
  ModelOptions options;
  options.name = std::move(name);
  options.hidden = std::vector<std::int64_t>{16};
  options.channels = {4, 6};
  return options;
}

std::vector<std::string> names_of(const std::vector<NamedTensor>& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) names.push_back(name);
  return names;
}

std::string complaint(const ModelOptions& options, const std::vector<std::int64_t>& shape,
                      const Target& target) {
  try {
    make_model(options, shape, target);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "accepted";
}

// What a strategy does when it attaches.
std::vector<at::Tensor> move_parameters(Model& model) {
  std::vector<at::Tensor> memory;
  for (auto& [name, parameter] : model.tensors().parameters) {
    memory.push_back(parameter.detach().clone());
    at::Tensor moved = parameter;
    moved.set_data(memory.back());
  }
  return memory;
}

TEST(MakeModel, LinearIsWxPlusB) {
  const auto model = make_model(named("linear"), std::vector<std::int64_t>{3}, Target::numbers(2));
  const auto parameters = model->tensors().parameters;
  EXPECT_THAT(names_of(parameters), testing::ElementsAre("weight", "bias"));
  const at::Tensor x = at::rand({5, 3});
  const at::Tensor expected = x.mm(parameters[0].second.t()) + parameters[1].second;
  EXPECT_TRUE(at::allclose(model->forward(x), expected));
}

TEST(MakeModel, LogisticHasOneOutputForTwoClassesAndOneEachForMore) {
  const auto outputs = [](std::int64_t classes, std::string loss) {
    ModelOptions options = named("logistic");
    options.loss = std::move(loss);
    const auto model = make_model(options, kImage, Target::one_of(classes));
    return model->forward(at::rand({5, 1, 8, 8})).size(1);
  };
  EXPECT_EQ(outputs(2, "auto"), 1);
  EXPECT_EQ(outputs(2, "cross_entropy"), 2);
  EXPECT_EQ(outputs(10, "auto"), 10);
}

TEST(MakeModel, MlpIsLinearLayersWithActivationsBetween) {
  for (const std::string activation : {"relu", "tanh", "gelu", "sigmoid"}) {
    ModelOptions options = named("mlp");
    options.hidden = std::vector<std::int64_t>{7, 6};
    options.activation = activation;
    const auto model = make_model(options, std::vector<std::int64_t>{5}, Target::one_of(3));
    const auto p = model->tensors().parameters;
    ASSERT_THAT(names_of(p),
                testing::ElementsAre("layers.0.weight", "layers.0.bias", "layers.1.weight",
                                     "layers.1.bias", "layers.2.weight", "layers.2.bias"));
    const auto act = [&](const at::Tensor& x) {
      return activation == "relu"   ? x.clamp_min(0)
             : activation == "tanh" ? 1 - 2 / ((2 * x).exp() + 1)
             : activation == "gelu" ? x / 2 * (1 + (x / std::sqrt(2)).erf())
                                    : 1 / (1 + (-x).exp());
    };
    const at::Tensor x = at::randn({4, 5});
    at::Tensor expected = act(x.mm(p[0].second.t()) + p[1].second);
    expected = act(expected.mm(p[2].second.t()) + p[3].second);
    expected = expected.mm(p[4].second.t()) + p[5].second;
    EXPECT_TRUE(at::allclose(model->forward(x), expected, 1e-4, 1e-6)) << activation;
  }
}

TEST(MakeModel, CnnTakesImagesWithOrWithoutAChannel) {
  const auto model = make_model(named("cnn"), kImage, Target::one_of(10));
  model->train(false);
  const at::Tensor x = at::rand({3, 8, 8});
  const at::Tensor output = model->forward(x);
  EXPECT_EQ(output.sizes(), at::IntArrayRef({3, 10}));
  EXPECT_TRUE(output.equal(model->forward(x.unsqueeze(1))));
  const auto plain = make_model(named("cnn"), std::vector<std::int64_t>{8, 8}, Target::one_of(10));
  plain->train(false);
  EXPECT_TRUE(output.equal(plain->forward(x)));
}

TEST(MakeModel, CnnNamesItsTensorsAndHasStatisticsOnlyWithBatchNorm) {
  ModelOptions options = named("cnn");
  options.channels = {4};
  EXPECT_THAT(
      names_of(make_model(options, kImage, Target::one_of(10))->tensors().parameters),
      testing::ElementsAre("blocks.0.convolution.weight", "blocks.0.normalisation.weight",
                           "blocks.0.normalisation.bias", "head.layers.0.weight",
                           "head.layers.0.bias", "head.layers.1.weight", "head.layers.1.bias"));
  EXPECT_EQ(make_model(options, kImage, Target::one_of(10))->tensors().buffers.size(), 3u);
  options.batch_norm = false;
  const auto plain = make_model(options, kImage, Target::one_of(10))->tensors();
  EXPECT_TRUE(plain.buffers.empty());
  EXPECT_EQ(plain.parameters[1].first, "blocks.0.convolution.bias");
}

TEST(MakeModel, DropsOutInTrainingOnly) {
  for (const std::string name : {"mlp", "cnn"}) {
    ModelOptions options = named(name);
    options.dropout = 0.5;
    options.batch_norm = false;
    const auto model = make_model(options, kImage, Target::one_of(10));
    const at::Tensor x = at::rand({3, 1, 8, 8});
    model->train(true);
    EXPECT_FALSE(model->forward(x).equal(model->forward(x))) << name;
    model->train(false);
    EXPECT_TRUE(model->forward(x).equal(model->forward(x))) << name;
  }
}

TEST(MakeModel, DropsOutWhatLibtorchDropsOutForTheSameSeed) {
  LinearLayer layer(6, 50, Hidden{activation_named("tanh"), 0.3});
  const at::Tensor x = at::rand({4, 6});
  at::manual_seed(1);
  const at::Tensor undisturbed = at::rand({3});
  at::manual_seed(1);
  layer.seed(7);
  const at::Tensor output = layer.forward(x);
  EXPECT_TRUE(at::rand({3}).equal(undisturbed)) << "the layer has a generator of its own";
  at::manual_seed(7);
  EXPECT_TRUE(output.equal(
      at::dropout(at::tanh(at::linear(x, layer.weight, layer.bias)), 0.3, /*train=*/true)));
}

TEST(MakeModel, LearnsInMemoryThatWasGivenToItsParameters) {
  const Target target = Target::one_of(3);
  const Loss loss = make_loss(target);
  at::manual_seed(1);
  const at::Tensor x = at::rand({12, 1, 8, 8});
  const at::Tensor y = at::randint(3, {12}, at::kLong);
  for (const std::string name : {"logistic", "mlp", "cnn"}) {
    const auto model = make_model(named(name), kImage, target);
    const std::vector<at::Tensor> memory = move_parameters(*model);
    const double before = loss(model->forward(x), y).sum.item<double>();
    for (int step = 0; step < 30; ++step) {
      loss(model->forward(x), y).sum.div(12).backward();
      for (std::size_t i = 0; i < memory.size(); ++i) {
        const at::NoGradGuard no_grad;
        at::Tensor parameter = model->tensors().parameters[i].second;
        at::Tensor view = memory[i];
        view.sub_(parameter.grad(), 0.1);
        parameter.mutable_grad().reset();
      }
    }
    EXPECT_LT(loss(model->forward(x), y).sum.item<double>(), 0.8 * before) << name;
  }
}

TEST(MakeModel, ComputesInTheTypeAskedForWhateverTheDataIs) {
  for (const std::string name : {"logistic", "mlp", "cnn"}) {
    ModelOptions options = named(name);
    options.dtype = "f64";
    const auto model = make_model(options, kImage, Target::one_of(3));
    EXPECT_EQ(model->forward(at::rand({2, 1, 8, 8})).scalar_type(), at::kDouble);
    for (const auto& [tensor_name, tensor] : model->tensors().buffers) {
      EXPECT_EQ(tensor.scalar_type(),
                tensor_name.ends_with("num_batches_tracked") ? at::kLong : at::kDouble);
    }
  }
}

TEST(MakeModel, StartsTheSameForTheSameSeed) {
  const auto start = [](std::uint64_t seed) {
    ModelOptions options = named("mlp");
    options.seed = seed;
    return make_model(options, kImage, Target::one_of(3))->tensors().parameters[0].second;
  };
  EXPECT_TRUE(start(1).equal(start(1)));
  EXPECT_FALSE(start(1).equal(start(2)));
}

TEST(MakeModel, RefusesWhatIsImpossible) {
  const std::vector<std::int64_t> features = {5};
  EXPECT_THAT(
      complaint(named("lienar"), features, Target::numbers(1)),
      HasSubstr("one of linear, logistic, mlp, cnn, resnet18, gpt2, llama, torchscript; got "
                "\"lienar\""));
  EXPECT_THAT(complaint(named("linear"), features, Target::one_of(3)), HasSubstr("use logistic"));
  EXPECT_THAT(complaint(named("logistic"), features, Target::numbers(1)), HasSubstr("use linear"));
  EXPECT_THAT(complaint(named("cnn"), features, Target::one_of(3)), HasSubstr("use mlp"));
  EXPECT_THAT(complaint(named("torchscript"), features, Target::one_of(3)), HasSubstr("path"));

  const auto with = [&](const std::string& name, auto change) {
    ModelOptions options = named(name);
    change(options);
    return complaint(options, kImage, Target::one_of(3));
  };
  EXPECT_THAT(with("mlp", [](auto& o) { o.hidden = {16, -1}; }), HasSubstr("got [16, -1]"));
  EXPECT_THAT(with("mlp", [](auto& o) { o.dropout = 1; }), HasSubstr("below 1, got 1"));
  EXPECT_THAT(with("mlp", [](auto& o) { o.dropout = NAN; }), HasSubstr("below 1, got nan"));
  EXPECT_THAT(with("mlp", [](auto& o) { o.activation = "swish"; }), HasSubstr("got \"swish\""));
  EXPECT_THAT(with("mlp", [](auto& o) { o.dtype = "f16"; }), HasSubstr("got \"f16\""));
  EXPECT_THAT(with("mlp", [](auto& o) { o.init = "random"; }), HasSubstr("got \"random\""));
  EXPECT_THAT(with("mlp", [](auto& o) { o.loss = "mse"; }), HasSubstr("3 classes"));
  EXPECT_THAT(with("cnn", [](auto& o) { o.channels = {}; }), HasSubstr("at least one block"));
  EXPECT_THAT(with("cnn", [](auto& o) { o.channels = {0}; }), HasSubstr("got [0]"));
  EXPECT_THAT(with("cnn", [](auto& o) { o.kernel = 4; }), HasSubstr("odd, got 4"));
  EXPECT_THAT(with("cnn", [](auto& o) { o.channels = {4, 4, 4, 4}; }), HasSubstr("use fewer"));
  EXPECT_THAT(with("torchscript", [](auto& o) { o.path = "/nowhere/model.pt"; }),
              HasSubstr("/nowhere/model.pt: there is no such"));
}

}  // namespace
}  // namespace trireme
