// GPT-2 and Llama against what PyTorch and numpy have computed: tests/gpt/README.md.

#include "trireme/model/gpt/gpt.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <string>

#include "trireme/base/error.h"
#include "trireme/comm/self/self.h"
#include "trireme/formats/safetensors.h"
#include "trireme/model/model.h"
#include "trireme/model/module_block.h"
#include "trireme/optim/clip.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/parallel/replicated.h"

namespace trireme {
namespace {

using testing::HasSubstr;

/// A file of tests/gpt/data.
class Golden {
 public:
  explicit Golden(const std::string& name)
      : file_(std::filesystem::path(TRIREME_GPT_GOLDENS) / (name + ".safetensors")) {}

  at::Tensor tensor(const std::string& name) const {
    const TensorInfo& info = file_.info(name);
    at::Tensor values = at::empty(info.shape, scalar_type_of(info.dtype));
    file_.read(name, buffer_of(values));
    return values;
  }
  std::set<std::string> names_after(const std::string& prefix) const {
    std::set<std::string> names;
    for (const std::string& name : file_.names()) {
      if (name.starts_with(prefix)) names.insert(name.substr(prefix.size()));
    }
    return names;
  }
  const std::string& text(const std::string& key) const { return file_.metadata().at(key); }
  double number(const std::string& key) const { return std::stod(text(key)); }
  std::int64_t count(const std::string& key) const { return std::stoll(text(key)); }

  bool is_llama() const { return text("model.name") == "llama"; }

  GptShape shape() const {
    return {.vocabulary = count("model.vocabulary"),
            .context = count("model.context"),
            .layers = count("model.layers"),
            .width = count("model.width"),
            .heads = count("model.heads"),
            .kv_heads = count("model.kv_heads"),
            .mlp_width = count("model.intermediate"),
            .norm_eps = number("model.norm_eps"),
            .rope_theta = is_llama() ? number("model.rope_theta") : 0,
            .tied = text("model.tied") == "true"};
  }

  std::unique_ptr<Model> model(double dropout = 0) const {
    GptShape sizes = shape();
    sizes.dropout = dropout;
    auto made = std::make_unique<Model>(is_llama() ? llama_blocks(sizes) : gpt2_blocks(sizes));
    for (at::Tensor parameter : parameters_of(*made)) {
      parameter.set_data(parameter.detach().to(at::kDouble));
    }
    const at::NoGradGuard no_grad;
    for (const auto& [name, parameter] : made->tensors().parameters) {
      parameter.copy_(tensor("weight." + name));
    }
    return made;
  }

  static std::vector<at::Tensor> parameters_of(const Model& model) {
    std::vector<at::Tensor> all;
    for (const NamedTensor& parameter : model.tensors().parameters) all.push_back(parameter.second);
    return all;
  }

  Batch batch() const {
    Batch batch(tensor("input"), tensor("target"), tensor("loss_weight").item<double>());
    batch.positions = tensor("position");
    return batch;
  }

  Loss loss() const {
    const std::int64_t length = tensor("input").size(1);
    return make_loss(
        Target::tokens(count("model.vocabulary"), length), "auto",
        {.label_smoothing = number("loss.label_smoothing"), .z_loss = number("loss.z_loss")});
  }

 private:
  SafetensorsFile file_;
};

void expect_close(const at::Tensor& got, const at::Tensor& wanted, const std::string& what) {
  ASSERT_EQ(got.sizes(), wanted.sizes()) << what;
  const double scale = std::max(wanted.abs().max().item<double>(), 1e-300);
  EXPECT_LE((got - wanted).abs().max().item<double>() / scale, 1e-12) << what;
}

class Gpt : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Golden, Gpt,
                         testing::Values("gpt2", "gpt2_packed", "llama", "llama_packed",
                                         "llama_tied"),
                         [](const auto& info) { return info.param; });

TEST_P(Gpt, HasTheNamesOfHuggingFace) {
  const Golden golden(GetParam());
  std::set<std::string> names;
  for (const NamedTensor& parameter : golden.model()->tensors().parameters) {
    names.insert(parameter.first);
  }
  EXPECT_EQ(names, golden.names_after("weight."));
}

TEST_P(Gpt, ComputesTheLogitsAndTheLoss) {
  const Golden golden(GetParam());
  const auto model = golden.model();
  const Batch batch = golden.batch();
  expect_close(model->forward(batch.input, batch.positions).detach(), golden.tensor("logits"),
               "logits");
  const LossSum loss = model->loss(batch, golden.loss());
  EXPECT_EQ(loss.weight, batch.weight);
  expect_close(loss.sum.detach().view({1}), golden.tensor("loss_sum"), "loss");
}

// The strategy's gradients: the division by the weight and the norm included.
TEST_P(Gpt, ComputesGradientsAndSteps) {
  const Golden golden(GetParam());
  for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
    const auto model = golden.model();
    model->set_recompute(recompute);
    const Batch batch = golden.batch();
    const Loss loss = golden.loss();
    auto world = self_communicator();
    const auto strategy = replicated(*world);
    OptimizerOptions options{.name = "adamw",
                             .lr = golden.number("optimizer.lr"),
                             .eps = golden.number("optimizer.eps"),
                             .weight_decay = golden.number("optimizer.weight_decay"),
                             .beta1 = golden.number("optimizer.beta1"),
                             .beta2 = golden.number("optimizer.beta2")};
    if (golden.text("optimizer.decayed") != "all") {
      options.groups = {{.kind = "bias_and_norm", .weight_decay = 0}};
    }
    const auto optimizer = make_optimizer(options, strategy->attach(*model));
    for (int step = 1; step <= 3; ++step) {
      strategy->begin({.passes = 1, .weight = batch.weight});
      strategy->backward(model->loss(batch, loss).sum);
      strategy->reduce_gradients();
      const double norm = strategy->gradient_norm();
      const double clip = golden.number("optimizer.clip_norm");
      if (clip > 0) optimizer->set_gradient_scale(clip_scale(norm, clip));
      if (step == 1) {
        EXPECT_NEAR(norm / golden.tensor("gradient_norm").item<double>(), 1, 1e-12);
        for (const auto& [name, parameter] : model->tensors().parameters) {
          expect_close(parameter.grad(), golden.tensor("gradient." + name), name);
        }
      }
      strategy->update(*optimizer);
      if (step == 2) continue;
      for (const auto& [name, parameter] : model->tensors().parameters) {
        expect_close(parameter.detach(), golden.tensor(fmt::format("after_{}.{}", step, name)),
                     fmt::format("{} after step {}", name, step));
      }
    }
  }
}

TEST_P(Gpt, RecomputationDoesNotChangeABitOfAnything) {
  const Golden golden(GetParam());
  const Batch batch = golden.batch();
  std::vector<std::vector<at::Tensor>> found;
  for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
    const auto model = golden.model(0.3);
    model->set_recompute(recompute);
    model->set_random_key(RandomKey{.seed = 1, .step = 2, .virtual_worker = 3});
    const LossSum loss = model->loss(batch, golden.loss());
    loss.sum.backward();
    std::vector<at::Tensor> values{loss.sum.detach()};
    for (const at::Tensor& parameter : Golden::parameters_of(*model)) {
      values.push_back(parameter.grad());
    }
    found.push_back(values);
  }
  for (std::size_t i = 0; i < found[0].size(); ++i) {
    EXPECT_TRUE(at::equal(found[0][i], found[1][i])) << "selective, value " << i;
    EXPECT_TRUE(at::equal(found[0][i], found[2][i])) << "full, value " << i;
  }
  EXPECT_FALSE(at::equal(found[0][0], golden.model()->loss(batch, golden.loss()).sum.detach()))
      << "dropout does nothing";
}

}  // namespace
}  // namespace trireme
