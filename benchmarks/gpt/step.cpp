// A training step of a GPT in f32 on one thread, optimizer included, beside its matrix products
// alone, beside the same model as an ordinary libtorch module with torch's AdamW, and beside itself
// in other precisions and with recomputation. Interleaved rounds, medians and quartiles.
//
//     bench_gpt_step [rounds [layers width heads context batch vocabulary]]
#include <ATen/Parallel.h>
#include <fmt/core.h>
#include <torch/torch.h>

#include <cstdlib>
#include <vector>

#include "benchmarks/rounds.h"
#include "trireme/base/processor.h"
#include "trireme/comm/self/self.h"
#include "trireme/model/gpt/gpt.h"
#include "trireme/model/model.h"
#include "trireme/optim/adam.h"
#include "trireme/parallel/replicated.h"

namespace {

using trireme::GptShape;

struct Tokens {
  torch::Tensor input;
  torch::Tensor target;
};

/// What a user of libtorch would write.
struct PlainLayer : torch::nn::Module {
  PlainLayer(const GptShape& s, const torch::Tensor& mask) : heads(s.heads), mask(mask) {
    for (const auto& [name, norm] : {std::pair("ln_1", &ln_1), std::pair("ln_2", &ln_2)}) {
      *norm = register_module(name, torch::nn::LayerNorm(torch::nn::LayerNormOptions({s.width})));
    }
    packed = register_module("packed", torch::nn::Linear(s.width, 3 * s.width));
    mixed = register_module("mixed", torch::nn::Linear(s.width, s.width));
    wide = register_module("wide", torch::nn::Linear(s.width, s.mlp_width));
    narrow = register_module("narrow", torch::nn::Linear(s.mlp_width, s.width));
  }

  torch::Tensor attention(const torch::Tensor& x) {
    const auto n = x.size(0), length = x.size(1), width = x.size(2);
    const auto parts = packed(x).chunk(3, 2);
    const auto by_head = [&](const torch::Tensor& part) {
      return part.view({n, length, heads, width / heads}).transpose(1, 2);
    };
    const auto scores = by_head(parts[0]).matmul(by_head(parts[1]).transpose(2, 3)) /
                        std::sqrt(static_cast<double>(width / heads));
    const auto p = scores.masked_fill(mask, -INFINITY).softmax(-1);
    return mixed(p.matmul(by_head(parts[2])).transpose(1, 2).reshape({n, length, width}));
  }

  torch::Tensor forward(const torch::Tensor& x) {
    const auto y = x + attention(ln_1(x));
    return y + narrow(torch::gelu(wide(ln_2(y)), "tanh"));
  }

  std::int64_t heads;
  torch::Tensor mask;
  torch::nn::LayerNorm ln_1{nullptr}, ln_2{nullptr};
  torch::nn::Linear packed{nullptr}, mixed{nullptr}, wide{nullptr}, narrow{nullptr};
};

struct PlainGpt : torch::nn::Module {
  explicit PlainGpt(const GptShape& s) {
    wte = register_module("wte", torch::nn::Embedding(s.vocabulary, s.width));
    wpe = register_module("wpe", torch::nn::Embedding(s.context, s.width));
    const auto mask = torch::ones({s.context, s.context}, torch::kBool).triu(1);
    for (std::int64_t i = 0; i < s.layers; ++i) {
      layers.push_back(
          register_module("h" + std::to_string(i), std::make_shared<PlainLayer>(s, mask)));
    }
    ln_f = register_module("ln_f", torch::nn::LayerNorm(torch::nn::LayerNormOptions({s.width})));
  }

  torch::Tensor loss(const Tokens& tokens) {
    auto x = wte(tokens.input) + wpe(torch::arange(tokens.input.size(1)));
    for (const auto& layer : layers) x = layer->forward(x);
    const auto logits = torch::matmul(ln_f(x), wte->weight.t());
    return torch::cross_entropy_loss(logits.flatten(0, 1), tokens.target.flatten());
  }

  torch::nn::Embedding wte{nullptr}, wpe{nullptr};
  std::vector<std::shared_ptr<PlainLayer>> layers;
  torch::nn::LayerNorm ln_f{nullptr};
};

/// The products of a step, in order, in memory of their own.
class Products {
 public:
  Products(const GptShape& s, std::int64_t batch) : layers_(s.layers) {
    const std::int64_t rows = batch * s.context;
    for (const auto& [in, out] :
         {std::pair(s.width, 3 * s.width), std::pair(s.width, s.width),
          std::pair(s.width, s.mlp_width), std::pair(s.mlp_width, s.width)}) {
      linear_.push_back(Linear(rows, in, out));
    }
    output_.push_back(Linear(rows, s.width, s.vocabulary));
    const std::int64_t heads = batch * s.heads;
    q_ = torch::randn({heads, s.context, s.head_width()});
    p_ = torch::randn({heads, s.context, s.context});
    scores_ = torch::empty_like(p_);
    out_ = torch::empty_like(q_);
  }

  void run() {
    for (std::int64_t i = 0; i < layers_; ++i) {
      linear_[0].forward();
      torch::bmm_out(scores_, q_, q_.transpose(1, 2));
      torch::bmm_out(out_, p_, q_);
      for (std::size_t l = 1; l < linear_.size(); ++l) linear_[l].forward();
    }
    output_[0].forward();
    output_[0].backward();
    for (std::int64_t i = 0; i < layers_; ++i) {
      for (std::size_t l = linear_.size(); l-- > 1;) linear_[l].backward();
      torch::bmm_out(out_, p_.transpose(1, 2), q_);
      torch::bmm_out(scores_, q_, q_.transpose(1, 2));
      torch::bmm_out(out_, p_, q_);
      torch::bmm_out(out_, p_.transpose(1, 2), q_);
      linear_[0].backward();
    }
  }

 private:
  struct Linear {
    Linear(std::int64_t rows, std::int64_t in, std::int64_t out)
        : x(torch::randn({rows, in})),
          weight(torch::randn({in, out})),
          y(torch::randn({rows, out})),
          dx(torch::empty_like(x)),
          dweight(torch::empty_like(weight)) {}
    void forward() { torch::mm_out(y, x, weight); }
    void backward() {
      torch::mm_out(dx, y, weight.t());
      torch::mm_out(dweight, x.t(), y);
    }
    torch::Tensor x, weight, y, dx, dweight;
  };

  std::int64_t layers_;
  std::vector<Linear> linear_;
  std::vector<Linear> output_;
  torch::Tensor q_, p_, scores_, out_;
};

/// The model, which is trained.
class Trained {
 public:
  Trained(const GptShape& shape, const Tokens& tokens, const trireme::ComputeType& compute = {},
          trireme::Recompute recompute = trireme::Recompute::kNone)
      : model_(trireme::gpt2_blocks(shape)),
        world_(trireme::self_communicator()),
        strategy_(trireme::replicated(*world_)),
        optimizer_(initialized(shape), {.lr = 1e-4}),
        batch_(tokens.input, tokens.target, static_cast<double>(tokens.target.numel())),
        loss_(trireme::make_loss(trireme::Target::tokens(shape.vocabulary, shape.context))) {
    model_.set_compute(compute);
    model_.set_recompute(recompute);
  }

  void step() {
    strategy_->begin({.passes = 1, .weight = batch_.weight});
    strategy_->backward(model_.loss(batch_, loss_).sum);
    strategy_->reduce_gradients();
    strategy_->update(optimizer_);
  }

 private:
  std::span<trireme::Shard> initialized(const GptShape& shape) {
    trireme::initialize(model_.tensors(), trireme::gpt_initial_values(shape.layers, 1));
    return strategy_->attach(model_);
  }

  trireme::Model model_;
  std::unique_ptr<trireme::Communicator> world_;
  std::unique_ptr<trireme::Strategy> strategy_;
  trireme::AdamW optimizer_;
  trireme::Batch batch_;
  trireme::Loss loss_;
};

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int i, std::int64_t otherwise) {
    return argc > i ? std::atoll(argv[i]) : otherwise;
  };
  const std::int64_t rounds = argument(1, 10), batch = argument(6, 4);
  GptShape shape{.vocabulary = argument(7, 256),
                 .context = argument(5, 256),
                 .layers = argument(2, 6),
                 .width = argument(3, 384),
                 .heads = argument(4, 6)};
  shape.kv_heads = shape.heads;
  shape.mlp_width = 4 * shape.width;
  at::set_num_threads(1);
  at::globalContext().setFlushDenormal(true);
  torch::manual_seed(1);
  const Tokens tokens{torch::randint(shape.vocabulary, {batch, shape.context}, torch::kLong),
                      torch::randint(shape.vocabulary, {batch, shape.context}, torch::kLong)};

  using trireme::DType;
  using trireme::Recompute;
  Trained ours(shape, tokens);
  const bool native = trireme::multiplies_bf16();
  Trained bf16(shape, tokens, {.operands = DType::kBF16, .native = native});
  Trained f16(shape, tokens, {.operands = DType::kF16});
  Trained selective(shape, tokens, {}, Recompute::kSelective);
  Trained full(shape, tokens, {}, Recompute::kFull);
  const std::vector<std::pair<const char*, Trained*>> others = {
      {native ? "bf16 products / f32" : "bf16, multiplied in f32 / f32", &bf16},
      {"f16, multiplied in f32 / f32", &f16},
      {"selective recomputation / none", &selective},
      {"full recomputation / none", &full}};

  PlainGpt plain(shape);
  torch::optim::AdamW plain_optimizer(plain.parameters(), torch::optim::AdamWOptions(1e-4));
  const auto theirs = [&] {
    plain_optimizer.zero_grad();
    plain.loss(tokens).backward();
    plain_optimizer.step();
  };

  Products products(shape, batch);
  std::vector<double> own, libtorch, alone, to_products, outside;
  std::vector<std::vector<double>> to_ours(others.size());
  for (std::int64_t round = -1; round < rounds; ++round) {
    const double a = bench::seconds_of([&] { ours.step(); });
    const double p = bench::seconds_of([&] { products.run(); });
    const double b = bench::seconds_of(theirs);
    std::vector<double> of_others;
    for (const auto& other : others) {
      of_others.push_back(bench::seconds_of([&] { other.second->step(); }) / a);
    }
    if (round < 0) continue;  // the first touches memory
    for (std::size_t i = 0; i < others.size(); ++i) to_ours[i].push_back(of_others[i]);
    own.push_back(a);
    alone.push_back(p);
    libtorch.push_back(b);
    to_products.push_back(a / p);
    outside.push_back((a - p) / (b - p));
  }
  bench::print_row("trireme, ms a step", own, 1e3);
  bench::print_row("the matrix products alone, ms", alone, 1e3);
  bench::print_row("plain libtorch, ms a step", libtorch, 1e3);
  bench::print_row("trireme / products", to_products, 1);
  bench::print_row("outside products, trireme / plain libtorch", outside, 1);
  for (std::size_t i = 0; i < others.size(); ++i) bench::print_row(others[i].first, to_ours[i], 1);
}
