#include "trireme/cli/templates.h"

#include <fmt/format.h>

#include "trireme/base/error.h"
#include "trireme/base/text.h"
#include "trireme/config/key.h"

namespace trireme::cli {

namespace {

constexpr const char* kLinear = R"(# Linear regression on generated data: y = w x + b + noise.
#   trireme train run.toml -n 2

[run]
directory = "run"                 # model, metrics, logs and checkpoints go here

[data]
format = "linear_model"           # for a table of yours: format = "csv", path, target
samples = 100000
features_count = 100
noise = 0.1                       # standard deviation
holdout = 0.1                     # share of the samples to evaluate on
sampler = "random"                # random, block or sequential

[model]
name = "linear"

[training]
epochs = 2
global_batch = 32                 # samples of one step over all ranks
seed = 1

[optimizer]
name = "sgd"
lr = 0.02

[lr_scheduler]
name = "cosine"                   # from lr down to lr * min_lr_ratio
)";

constexpr const char* kFashionData = R"([data]
format = "idx"                    # MNIST's format; .gz is read as it is
images = {}
labels = {}
test_images = {}
test_labels = {}
sampler = "random"                # random, block or sequential
)";

constexpr const char* kMlp = R"(# A multi-layer perceptron on the 70,000 images of Fashion-MNIST.
#   trireme train run.toml

[run]
directory = "run"                 # model, metrics, logs and checkpoints go here

{data}
[model]
name = "mlp"
hidden = [512, 512]
activation = "relu"
init = "kaiming_normal"
dropout = 0.1

[training]
epochs = 5
global_batch = 128                # samples of one step over all ranks
seed = 1

[optimizer]
name = "sgd"
lr = 0.1
momentum = 0.9
nesterov = true

[lr_scheduler]
name = "one_cycle"                # up to lr, then down to almost nothing

[parallelism]
strategy = "host_shared"          # one copy of the parameters for all ranks
)";

constexpr const char* kCnn =
    R"(# A small convolutional network on the 70,000 images of Fashion-MNIST.
#   trireme train run.toml

[run]
directory = "run"                 # model, metrics, logs and checkpoints go here

{data}
[model]
name = "cnn"
channels = [16, 32]               # of each convolution
hidden = [128]
batch_norm = true
init = "kaiming_normal"

[training]
epochs = 3
global_batch = 128                # samples of one step over all ranks
# 12 virtual workers give the same bits on 1, 2, 3, 4, 6 or 12 ranks; 0 is one a rank.
virtual_workers = 0
seed = 1

[optimizer]
name = "adamw"
lr = 0.003
weight_decay = 0.01

[lr_scheduler]
name = "one_cycle"                # up to lr, then down to almost nothing
)";

constexpr const char* kGpt = R"(# A small GPT that learns to write a text, character by character.
#   trireme train run.toml

[run]
directory = "run"                 # model, metrics, logs and checkpoints go here

[data]
format = "text"
{data}
tokenizer = "characters"          # bytes, or a tokenizer.json
holdout = 0.1                     # the last part of the text, to evaluate on

[model]
name = "gpt2"                     # or llama
layers = 4
width = 128
heads = 4
context = 64                      # tokens that the model sees at once

[training]
steps = 600
global_batch = 24                 # samples of one step over all ranks, context tokens each
# 12 virtual workers give the same bits on 1, 2, 3, 4, 6 or 12 ranks; 0 is one a rank.
virtual_workers = 0
clip_norm = 1.0
seed = 1

[optimizer]
name = "adamw"
lr = 0.003
betas = [0.9, 0.99]
weight_decay = 0.1

[[optimizer.groups]]
kind = "bias_and_norm"            # no weight decay
weight_decay = 0.0

[lr_scheduler]
name = "cosine"
warmup_steps = 50
min_lr_ratio = 0.1

[evaluation]
every_steps = 200
)";

std::string with_text(std::string_view text, std::string path) {
  const std::string line =
      path.empty()
          ? "path = \"\"                         # a text file of yours; empty: generated text"
          : fmt::format("path = {}", toml_text(&path));
  std::string result(text);
  const std::string_view mark = "{data}";
  result.replace(result.find(mark), mark.size(), line);
  return result;
}

std::string with_data(std::string_view text, std::string_view folder) {
  std::string result(text);
  const std::string_view mark = "{data}";
  std::vector<std::string> paths;
  for (const char* name : kFashionMnistFiles) {
    std::string path = fmt::format("{}/{}", folder, name);
    paths.push_back(toml_text(&path));
  }
  result.replace(result.find(mark), mark.size(),
                 fmt::format(fmt::runtime(kFashionData), paths[0], paths[1], paths[2], paths[3]));
  return result;
}

}  // namespace

const std::vector<std::string>& template_names() {
  static const std::vector<std::string> names = {"linear", "mlp", "cnn", "gpt"};
  return names;
}

std::string configuration_template(std::string_view name, const TemplateData& data) {
  if (name == "linear") return kLinear;
  if (name == "mlp") return with_data(kMlp, data.fashion_mnist);
  if (name == "cnn") return with_data(kCnn, data.fashion_mnist);
  if (name == "gpt") return with_text(kGpt, data.text);
  const std::string guess = nearest(name, template_names());
  throw UsageError(fmt::format("init: wanted one of linear, mlp, cnn, gpt, got \"{}\"{}", name,
                               guess.empty() ? "" : fmt::format("; did you mean {}?", guess)));
}

}  // namespace trireme::cli
