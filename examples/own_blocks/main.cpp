// A transformer of blocks of your own, trained on the characters of a text by a loop of your own.
//
//   cd build/release
//   ./trireme run -n 2 examples/own_blocks ../../README.md
//
// Result: the loss falls below 2.8, and the same last line, to the bit, on any number of ranks up
// to kWorkers, whether blocks are computed again in the backward pass or not ("recompute" behind
// the file).
#include <torch/torch.h>
#include <trireme/data/token_dataset.h>
#include <trireme/formats/tokenize_text.h>
#include <trireme/model/gpt/attention.h>
#include <trireme/model/module_block.h>
#include <trireme/optim/adam.h>
#include <trireme/trireme.h>

#include <iostream>
#include <string_view>

using namespace trireme;

constexpr int kWorkers = 6;
constexpr std::int64_t kContext = 32, kWidth = 48, kHeads = 4, kLayers = 2, kSteps = 100;

// tokens [n, length] -> [n, length, kWidth]
struct Embedding : torch::nn::Module {
  explicit Embedding(std::int64_t vocabulary)
      : tokens(register_module("tokens", torch::nn::Embedding(vocabulary, kWidth))),
        places(register_module("places", torch::nn::Embedding(kContext, kWidth))) {}
  torch::Tensor forward(const torch::Tensor& x) {
    return tokens(x) + places(torch::arange(x.size(1)));
  }
  torch::nn::Embedding tokens, places;
};

// Attention and an MLP, each added to its input.
struct Layer : torch::nn::Module {
  Layer()
      : norm(register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({kWidth})))),
        packed(register_module("packed", torch::nn::Linear(kWidth, 3 * kWidth))),
        mixed(register_module("mixed", torch::nn::Linear(kWidth, kWidth))),
        mlp(register_module(
            "mlp", torch::nn::Sequential(torch::nn::Linear(kWidth, 4 * kWidth), torch::nn::SiLU(),
                                         torch::nn::Linear(4 * kWidth, kWidth)))),
        dropout(register_module("dropout", torch::nn::Dropout(0.05))) {}
  torch::Tensor forward(const torch::Tensor& x) {
    const AttentionOptions options{
        .heads = kHeads, .kv_heads = kHeads, .head_width = kWidth / kHeads};
    const auto attended = x + mixed(attention(packed(norm(x)), /*positions=*/{}, options));
    return attended + dropout(mlp->forward(attended));
  }
  torch::nn::LayerNorm norm;
  torch::nn::Linear packed, mixed;
  torch::nn::Sequential mlp;
  torch::nn::Dropout dropout;
};

std::unique_ptr<Model> make_blocks(std::int64_t vocabulary) {
  std::vector<std::unique_ptr<Block>> blocks;
  const auto add = [&](auto module, const std::string& prefix) {
    using Module = typename decltype(module)::element_type;
    blocks.push_back(std::make_unique<ModuleBlock<Module>>(module, prefix));
  };
  add(std::make_shared<Embedding>(vocabulary), "embedding.");
  for (int i = 0; i < kLayers; ++i) {
    add(std::make_shared<Layer>(), "layers." + std::to_string(i) + ".");
  }
  add(std::make_shared<torch::nn::LinearImpl>(kWidth, vocabulary), "output.");
  return std::make_unique<Model>(std::move(blocks));
}

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: own_blocks TEXT [recompute]\n";
    return 2;
  }
  const auto world = connect();
  torch::set_num_threads(1);
  torch::manual_seed(1);

  TokenizedText text = tokenize_text({text_file(argv[1])}, "characters");
  const TokenDataset train(std::make_shared<TokenFile>(std::move(text.training)), kContext);
  const auto sampler = random_sampler(
      {.samples = train.size(), .global_batch = 12, .virtual_workers = kWorkers, .seed = 1});
  const Loss loss = make_loss(train.target());

  const auto model = make_blocks(train.target().classes);
  if (argc > 2 && std::string_view(argv[2]) == "recompute") model->set_recompute(Recompute::kFull);
  const auto strategy = replicated(*world, {.virtual_workers = kWorkers});
  AdamW optimizer(strategy->attach(*model), {.lr = 3e-3});

  Loader loader(train, *sampler, strategy->virtual_workers(), {0, kSteps});
  while (const auto step = loader.next()) {
    strategy->begin({.passes = static_cast<int>(step->batches.size()), .weight = step->weight});
    for (std::size_t i = 0; i < step->batches.size(); ++i) {
      // Dropout draws the same numbers on any rank, and when a block is computed again.
      model->set_random_key(
          RandomKey{.seed = 1, .step = step->step, .virtual_worker = step->virtual_workers[i]});
      strategy->backward(model->loss(step->batches[i], loss).sum);
    }
    const double mean = strategy->reduce_gradients().loss;
    strategy->update(optimizer);
    if (world->rank() == 0 && (step->step + 1) % 50 == 0) {
      std::cout << "step " << step->step + 1 << ": loss " << std::hexfloat << mean << " = "
                << std::defaultfloat << mean << '\n';
    }
  }
}
