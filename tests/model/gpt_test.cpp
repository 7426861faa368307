// GPT-2 and Llama against what PyTorch and numpy have computed: tests/gpt/README.md.

#include "trireme/model/gpt/gpt.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <string>

#include "tests/model/golden.h"
#include "trireme/base/error.h"
#include "trireme/comm/self/self.h"
#include "trireme/formats/safetensors.h"
#include "trireme/model/gpt/generate.h"
#include "trireme/model/gpt/vocabulary_loss.h"
#include "trireme/model/model.h"
#include "trireme/model/module_block.h"
#include "trireme/optim/clip.h"
#include "trireme/optim/make_optimizer.h"
#include "trireme/parallel/replicated.h"

namespace trireme {
namespace {

using test::expect_close;

/// A file of tests/gpt/data.
class Golden {
 public:
  explicit Golden(const std::string& name)
      : file_(std::filesystem::path(TRIREME_GPT_GOLDENS) / (name + ".safetensors")) {}

  at::Tensor tensor(const std::string& name) const { return test::tensor_in(file_, name); }
  std::set<std::string> names_after(const std::string& prefix) const {
    return test::names_after(prefix, file_);
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

// Catalogued in public: positions begin anew at a document and the mask does not.
TEST(GptDocuments, DoNotSeeTheOneBefore) {
  for (const char* name : {"gpt2_packed", "llama_packed"}) {
    const Golden golden(name);
    const auto model = golden.model();
    const Batch batch = golden.batch();
    const at::Tensor before = model->forward(batch.input, batch.positions).detach();
    // Other tokens in the first document of each sample.
    at::Tensor other = batch.input.clone();
    const at::Tensor is_first = batch.positions.eq(0).cumsum(1).eq(1);
    other.masked_scatter_(
        is_first, (other + 1).remainder(golden.count("model.vocabulary")).masked_select(is_first));
    const at::Tensor after = model->forward(other, batch.positions).detach();
    const at::Tensor same = before.eq(after).all(2);
    EXPECT_TRUE(same.masked_select(is_first.logical_not()).all().item<bool>()) << name;
    EXPECT_FALSE(same.masked_select(is_first).any().item<bool>()) << name;
  }
}

TEST_P(Gpt, WritesWhatTheReferenceWrites) {
  const Golden golden(GetParam());
  const auto model = golden.model();
  const at::Tensor prompt = golden.tensor("prompt"), wanted = golden.tensor("generated");
  const std::span<const std::int64_t> first(prompt.data_ptr<std::int64_t>(),
                                            static_cast<std::size_t>(prompt.numel()));
  const std::vector<std::int64_t> tokens = generate(*model, first, golden.count("model.context"),
                                                    {.tokens = wanted.numel(), .temperature = 0});
  EXPECT_THAT(tokens, testing::ElementsAreArray(wanted.data_ptr<std::int64_t>(),
                                                static_cast<std::size_t>(wanted.numel())));
}

TEST(Generate, GoesOnWhenItsContextIsFull) {
  const Golden golden("llama");
  const auto model = golden.model();
  const std::vector<std::int64_t> prompt{1, 2, 3, 4, 5, 6, 7, 8, 9};
  std::vector<std::int64_t> told;
  const auto tokens = generate(*model, prompt, 4, {.tokens = 20, .seed = 3}, [&](std::int64_t t) {
    told.push_back(t);
    return true;
  });
  EXPECT_EQ(tokens.size(), 20u);
  EXPECT_EQ(told, tokens);
  // The first token is that of a model which has seen the last four alone.
  const std::vector<std::int64_t> last{6, 7, 8, 9};
  EXPECT_EQ(generate(*model, last, 4, {.tokens = 1, .seed = 3}).front(), tokens.front());
  EXPECT_EQ(generate(*model, prompt, 4, {.tokens = 20, .seed = 3}), tokens);
}

TEST(Generate, ChoosesAmongTheMostLikelyTokens) {
  const Golden golden("gpt2");
  const auto model = golden.model();
  const std::vector<std::int64_t> prompt{3, 1};
  const auto greedy = generate(*model, prompt, 7, {.tokens = 5, .temperature = 0});
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    EXPECT_EQ(generate(*model, prompt, 7, {.tokens = 5, .top_k = 1, .seed = seed}), greedy);
    EXPECT_EQ(generate(*model, prompt, 7, {.tokens = 5, .top_p = 1e-6, .seed = seed}), greedy);
  }
  // Draws follow the probabilities of the softmax.
  at::Tensor logits =
      model->forward(at::tensor({3, 1}, at::kLong).view({1, 2})).detach().select(1, 1).flatten();
  const at::Tensor probabilities = logits.softmax(0);
  std::vector<double> counts(17, 0);
  constexpr int kDraws = 1000;
  for (std::uint64_t seed = 0; seed < kDraws; ++seed) {
    ++counts[static_cast<std::size_t>(
        generate(*model, prompt, 7, {.tokens = 1, .seed = seed}).front())];
  }
  double chi_squared = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double expected = kDraws * probabilities[static_cast<std::int64_t>(i)].item<double>();
    chi_squared += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  EXPECT_LT(chi_squared, 45);  // 16 degrees of freedom: 39 in one of 1,000 cases
  // Stops before a token.
  const auto stopped =
      generate(*model, prompt, 7, {.tokens = 5, .temperature = 0, .stop = {greedy[0]}});
  EXPECT_TRUE(stopped.empty());
}

TEST(Generate, RefusesWhatIsImpossible) {
  const auto model = Golden("gpt2").model();
  const std::vector<std::int64_t> prompt{1};
  EXPECT_THROW(generate(*model, prompt, 7, {.top_p = 0}), UsageError);
  EXPECT_THROW(generate(*model, prompt, 7, {.temperature = -1}), UsageError);
  EXPECT_THROW(generate(*model, {}, 7, {}), UsageError);
  const std::vector<std::int64_t> unknown{17};
  EXPECT_THROW(generate(*model, unknown, 7, {}), UsageError);
}

// The chunks of a large vocabulary, against libtorch's loss of all logits at once.
TEST(VocabularyLoss, IsThatOfAllLogitsAtOnce) {
  at::manual_seed(1);
  constexpr std::int64_t kVocabulary = 30000, kWidth = 5;
  const at::Tensor hidden = at::randn({3, 70, kWidth}, at::kDouble).requires_grad_();
  const at::Tensor weight = at::randn({kVocabulary, kWidth}, at::kDouble).requires_grad_();
  at::Tensor target = at::randint(kVocabulary, {3, 70}, at::kLong);
  target[1].slice(0, 10, 30).fill_(Target::kIgnored);
  const VocabularyLossTerms terms{.label_smoothing = 0.2, .z_loss = 1e-3};
  const Loss loss = make_loss(Target::tokens(kVocabulary, 70), "auto", terms);
  const LossSum all = loss(at::linear(hidden, weight), target);
  const auto wanted = torch::autograd::grad({all.sum}, {hidden, weight});
  const LossSum chunks = vocabulary_loss(hidden, weight, target, loss);
  const auto found = torch::autograd::grad({chunks.sum * 3}, {hidden, weight});
  EXPECT_EQ(chunks.weight, 190);
  EXPECT_EQ(chunks.weight, all.weight);
  EXPECT_NEAR(chunks.sum.item<double>() / all.sum.item<double>(), 1, 1e-12);
  expect_close(found[0] / 3, wanted[0], "hidden");
  expect_close(found[1] / 3, wanted[1], "weight");
  const at::NoGradGuard no_grad;
  EXPECT_NEAR(
      vocabulary_loss(hidden, weight, target, loss).sum.item<double>() / all.sum.item<double>(), 1,
      1e-12);
  const Loss plain = make_loss(Target::tokens(kVocabulary, 70));
  const EvaluationSums sums = evaluate_vocabulary(hidden, weight, target);
  const EvaluationSums reference = plain.evaluate(at::linear(hidden, weight), target);
  EXPECT_NEAR(sums.loss / reference.loss, 1, 1e-12);
  EXPECT_EQ(sums.correct, reference.correct);
  EXPECT_EQ(sums.weight, reference.weight);
}

TEST(VocabularyLoss, RefusesATargetOutsideTheVocabulary) {
  const at::Tensor hidden = at::ones({1, 2, 3}), weight = at::ones({4, 3});
  const Loss loss = make_loss(Target::tokens(4, 2));
  for (const std::int64_t bad : {-1, 4}) {
    EXPECT_THROW(vocabulary_loss(hidden, weight, at::tensor({0l, bad}).view({1, 2}), loss),
                 UsageError);
  }
}

TEST(GptShapes, ThatDoNotFitAreRefused) {
  const GptShape good{.vocabulary = 5,
                      .context = 4,
                      .layers = 1,
                      .width = 8,
                      .heads = 2,
                      .kv_heads = 2,
                      .mlp_width = 8};
  EXPECT_NO_THROW(gpt2_blocks(good));
  const auto refused = [&](auto change, bool is_llama = false) {
    GptShape shape = good;
    change(shape);
    EXPECT_THROW(is_llama ? llama_blocks(shape) : gpt2_blocks(shape), UsageError);
  };
  refused([](GptShape& s) { s.heads = s.kv_heads = 3; });
  refused([](GptShape& s) { s.kv_heads = 1; });
  refused([](GptShape& s) { s.heads = 8, s.kv_heads = 8; }, true);
  refused([](GptShape& s) { s.kv_heads = 0; }, true);
  refused([](GptShape& s) { s.vocabulary = 1; });
  refused([](GptShape& s) { s.layers = 0; });
}

// A token or a place that the embeddings do not have.
TEST(GptInput, OutsideTheTablesIsRefused) {
  const auto model = Golden("gpt2").model();
  EXPECT_THROW(model->forward(at::full({1, 2}, 17, at::kLong)), UsageError);
  EXPECT_THROW(model->forward(at::zeros({1, 200}, at::kLong)), UsageError);
  EXPECT_THROW(model->forward(at::zeros({1, 2})), UsageError);
}

struct Normalized : torch::nn::Module {
  at::Tensor forward(const at::Tensor& x) { return norm(dropout(x)).relu(); }
  torch::nn::Dropout dropout = register_module("dropout", torch::nn::Dropout(0.5));
  torch::nn::BatchNorm1d norm = register_module("norm", torch::nn::BatchNorm1d(3));
};

// A module that knows nothing of recomputation: random numbers of libtorch, and buffers that
// change.
TEST(RecomputedModule, HasTheBitsOfOneThatKeepsAll) {
  at::manual_seed(5);
  const at::Tensor input = at::randn({8, 3}), slope = at::randn({8, 3});
  std::vector<std::vector<at::Tensor>> found;
  for (const Recompute recompute : {Recompute::kNone, Recompute::kFull}) {
    const auto module = std::make_shared<Normalized>();
    const auto model = model_of(module);
    model->set_recompute(recompute);
    model->set_random_key(RandomKey{.seed = 9});
    const at::Tensor x = input.clone().requires_grad_();
    model->forward(x).backward(slope);
    found.push_back({x.grad(), module->norm->weight.grad(), module->norm->running_mean,
                     module->norm->running_var, module->norm->num_batches_tracked});
  }
  for (std::size_t i = 0; i < found[0].size(); ++i) {
    EXPECT_TRUE(at::equal(found[0][i], found[1][i])) << i;
  }
  EXPECT_THROW(model_of(std::make_shared<Normalized>())->set_recompute(Recompute::kSelective),
               UsageError);
}

struct Twice : torch::nn::Module {
  Twice() {
    register_module("first", layer);
    register_module("second", layer);
  }
  at::Tensor forward(const at::Tensor& x) { return layer(layer(x).tanh()); }
  torch::nn::Linear layer{3, 3};
};

TEST(RecomputedModule, CountsAParameterWithTwoNamesOnce) {
  at::manual_seed(6);
  const auto module = std::make_shared<Twice>();
  const auto model = model_of(module);
  const at::Tensor x = at::randn({4, 3});
  std::vector<at::Tensor> found;
  for (const Recompute recompute : {Recompute::kNone, Recompute::kFull}) {
    model->set_recompute(recompute);
    module->zero_grad();
    model->forward(x).square().sum().backward();
    found.push_back(module->layer->weight.grad().clone());
  }
  EXPECT_TRUE(at::equal(found[0], found[1]));
}

}  // namespace
}  // namespace trireme
