// ResNet-18 against what PyTorch has computed: tests/resnet/README.md.

#include "trireme/model/resnet.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <sstream>
#include <string>

#include "tests/formats/temporary_folder.h"
#include "tests/model/golden.h"
#include "trireme/base/error.h"
#include "trireme/checkpoint/model_file.h"
#include "trireme/model/make_model.h"

namespace trireme::test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

// 16 bits: the top of SplitMix64 of (seed, stream, index).
std::int64_t hashed(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  std::uint64_t z = (seed << 40) + (stream << 20) + 1 + index;
  z *= 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return static_cast<std::int64_t>((z ^ (z >> 31)) >> 48);
}

/// A file of tests/resnet/data.
class Golden {
 public:
  explicit Golden(const std::string& name)
      : file_(std::filesystem::path(TRIREME_RESNET_GOLDENS) / (name + ".safetensors")) {
    std::istringstream sizes(file_.metadata().at("images"));
    for (std::int64_t size = 0; sizes >> size;) sizes_.push_back(size);
  }

  at::Tensor tensor(const std::string& name) const { return tensor_in(file_, name); }
  std::int64_t samples() const { return sizes_[0]; }
  at::Tensor images() const { return values(1000, sizes_, 1); }

  std::unique_ptr<Model> model(const std::string& dtype = "f64") const {
    const ModelOptions options{
        .name = "resnet18", .dtype = dtype, .stem_channels = number("stem_channels")};
    return make_model(options, std::span(sizes_).subspan(1), Target::one_of(number("outputs")));
  }

  std::unique_ptr<Model> model_with_weights() const {
    auto made = model();
    std::map<std::string, at::Tensor> sorted;
    for (const auto& [name, parameter] : made->tensors().parameters) sorted[name] = parameter;
    const at::NoGradGuard no_grad;
    std::uint64_t stream = 0;
    for (auto& [name, parameter] : sorted) {
      const bool is_bias = name.ends_with(".bias"), is_scale = !is_bias && parameter.dim() == 1;
      const at::Tensor numbers =
          values(stream++, parameter.sizes(), is_bias || is_scale ? 0.25 : 0.5);
      parameter.copy_(is_scale ? 1 + numbers : numbers);
    }
    return made;
  }

  /// What PyTorch saves of the model, with other values.
  NamedTensors state() const {
    NamedTensors state;
    for (const std::string& name : names_after("gradient.", file_)) {
      state.parameters.emplace_back(name, tensor("gradient." + name));
    }
    for (const std::string& name : names_after("buffer.", file_)) {
      state.buffers.emplace_back(name, tensor("buffer." + name));
    }
    return state;
  }

 private:
  std::int64_t number(const std::string& key) const { return std::stoll(file_.metadata().at(key)); }

  at::Tensor values(std::uint64_t stream, at::IntArrayRef sizes, double scale) const {
    at::Tensor made = at::empty(sizes, at::kDouble);
    double* const value = made.data_ptr<double>();
    const auto seed = static_cast<std::uint64_t>(number("seed"));
    for (std::int64_t i = 0; i < made.numel(); ++i) {
      const auto number = static_cast<double>(hashed(seed, stream, static_cast<std::uint64_t>(i)));
      value[i] = (number - 32767.5) / 32768 * scale;
    }
    return made;
  }

  SafetensorsFile file_;
  std::vector<std::int64_t> sizes_;
};

class Resnet : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Golden, Resnet, testing::Values("small", "imagenet"),
                         [](const auto& info) { return info.param; });

// One step in training, of which batch normalization keeps its statistics, and one evaluation.
TEST_P(Resnet, ComputesWhatPyTorchComputes) {
  const Golden golden(GetParam());
  for (const Recompute recompute : {Recompute::kNone, Recompute::kFull}) {
    const auto model = golden.model_with_weights();
    model->set_recompute(recompute);
    const at::Tensor logits = model->forward(golden.images());
    expect_close(logits.detach(), golden.tensor("logits"), "logits");
    const at::Tensor loss = at::cross_entropy_loss(logits, golden.tensor("target"));
    expect_close(loss.detach(), golden.tensor("loss"), "loss");
    loss.backward();
    const NamedTensors tensors = model->tensors();
    for (const auto& [name, parameter] : tensors.parameters) {
      expect_close(parameter.grad(), golden.tensor("gradient." + name), name);
    }
    for (const auto& [name, buffer] : tensors.buffers) {
      expect_close(buffer, golden.tensor("buffer." + name), name);
    }
    model->train(false);
    expect_close(model->forward(golden.images()).detach(), golden.tensor("evaluation_logits"),
                 "logits in evaluation");
  }
}

TEST_P(Resnet, RecomputationDoesNotChangeABit) {
  const Golden golden(GetParam());
  std::vector<std::vector<at::Tensor>> found;
  for (const Recompute recompute : {Recompute::kNone, Recompute::kFull}) {
    const auto model = golden.model("f32");
    model->set_recompute(recompute);
    const at::Tensor logits = model->forward(golden.images());
    logits.square().sum().backward();
    std::vector<at::Tensor> values{logits.detach()};
    const NamedTensors tensors = model->tensors();
    for (const auto& [name, parameter] : tensors.parameters) values.push_back(parameter.grad());
    for (const auto& [name, buffer] : tensors.buffers) values.push_back(buffer);
    found.push_back(values);
  }
  for (std::size_t i = 0; i < found[0].size(); ++i) {
    EXPECT_TRUE(found[0][i].equal(found[1][i])) << "value " << i;
  }
}

TEST_P(Resnet, LoadsWhatPyTorchSaves) {
  const Golden golden(GetParam());
  const TemporaryFolder folder;
  const NamedTensors state = golden.state();
  const auto path = folder.path() / "weights.safetensors";
  save_model(path, state);
  const auto model = golden.model();
  load_model(path, model->tensors());
  std::map<std::string, at::Tensor> loaded;
  const NamedTensors tensors = model->tensors();
  for (const auto* group : {&tensors.parameters, &tensors.buffers}) {
    for (const auto& [name, tensor] : *group) loaded[name] = tensor;
  }
  for (const auto* group : {&state.parameters, &state.buffers}) {
    for (const auto& [name, tensor] : *group) {
      EXPECT_TRUE(loaded.at(name).equal(tensor)) << name;
      loaded.erase(name);
    }
  }
  EXPECT_TRUE(loaded.empty());
}

std::map<std::string, at::Tensor> parameters_of(const ModelOptions& options,
                                                const std::vector<std::int64_t>& image) {
  std::map<std::string, at::Tensor> parameters;
  const auto model = make_model(options, image, Target::one_of(10));
  for (const auto& [name, parameter] : model->tensors().parameters) {
    parameters[name] = parameter.detach();
  }
  return parameters;
}

TEST(ResnetModel, HasAsManyParametersAsTheOneOfTorchvision) {
  std::int64_t parameters = 0;
  const auto model = make_model({.name = "resnet18"}, std::vector<std::int64_t>{3, 224, 224},
                                Target::one_of(1000));
  for (const auto& [name, tensor] : model->tensors().parameters) parameters += tensor.numel();
  EXPECT_EQ(parameters, 11'689'512);
  EXPECT_EQ(model->blocks().size(), 10u);
}

// Deviations of n numbers of variance v have an error of about sqrt(v / 2n).
TEST(ResnetModel, BeginsWithTheValuesOfTorchvision) {
  const auto parameters = parameters_of({.name = "resnet18", .stem_channels = 16}, {1, 32, 32});
  const auto expect_deviation = [&](const std::string& name, double connections_out) {
    const at::Tensor& weight = parameters.at(name);
    const double wanted = std::sqrt(2 / connections_out);
    const double error = wanted / std::sqrt(2.0 * static_cast<double>(weight.numel()));
    EXPECT_NEAR(weight.std().item<double>(), wanted, 5 * error) << name;
    EXPECT_NEAR(weight.mean().item<double>(), 0, 5 * error * std::sqrt(2)) << name;
  };
  expect_deviation("conv1.weight", 16 * 3 * 3);
  expect_deviation("layer2.0.conv1.weight", 32 * 3 * 3);
  expect_deviation("layer2.0.downsample.0.weight", 32);
  expect_deviation("layer4.1.conv2.weight", 128 * 3 * 3);
  const double bound = 1 / std::sqrt(128);
  const double largest = parameters.at("fc.weight").abs().max().item<double>();
  EXPECT_LE(largest, bound);
  EXPECT_GT(largest, 0.98 * bound);
  EXPECT_GT(parameters.at("fc.bias").abs().max().item<double>(), 0);
  EXPECT_TRUE(parameters.at("layer3.0.downsample.1.weight").eq(1).all().item<bool>());
  EXPECT_TRUE(parameters.at("bn1.bias").eq(0).all().item<bool>());
}

TEST(ResnetModel, HasTheStemThatSuitsItsImages) {
  const auto side_of_kernel = [](const std::string& stem, const std::vector<std::int64_t>& image) {
    const auto parameters =
        parameters_of({.name = "resnet18", .stem = stem, .stem_channels = 1}, image);
    return parameters.at("conv1.weight").size(2);
  };
  EXPECT_EQ(side_of_kernel("auto", {3, 64, 64}), 3);
  EXPECT_EQ(side_of_kernel("auto", {3, 64, 65}), 7);
  EXPECT_EQ(side_of_kernel("auto", {65, 64}), 7);
  EXPECT_EQ(side_of_kernel("small", {3, 224, 224}), 3);
  EXPECT_EQ(side_of_kernel("imagenet", {28, 28}), 7);
}

TEST(ResnetModel, TakesImagesWithOrWithoutAChannel) {
  const auto model = make_model({.name = "resnet18", .stem_channels = 2},
                                std::vector<std::int64_t>{20, 24}, Target::one_of(10));
  model->train(false);
  const at::Tensor x = at::rand({3, 20, 24});
  const at::Tensor output = model->forward(x);
  EXPECT_EQ(output.sizes(), at::IntArrayRef({3, 10}));
  EXPECT_TRUE(output.equal(model->forward(x.unsqueeze(1))));
}

TEST(ResnetModel, RefusesWhatIsImpossible) {
  const auto making = [](const ModelOptions& options, std::vector<std::int64_t> sample) {
    return [=] { make_model(options, sample, Target::one_of(10)); };
  };
  EXPECT_THAT(making({.name = "resnet18"}, {5}),
              ThrowsMessage<UsageError>(HasSubstr("resnet18 needs images")));
  EXPECT_THAT(making({.name = "resnet18", .stem = "large"}, {8, 8}),
              ThrowsMessage<UsageError>(HasSubstr("auto, small, imagenet; got \"large\"")));
  EXPECT_THAT(making({.name = "resnet18", .stem_channels = 0}, {8, 8}),
              ThrowsMessage<UsageError>(HasSubstr("stem_channels must be positive")));
}

}  // namespace
}  // namespace trireme::test
