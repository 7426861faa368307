#include "trireme/config/schema/rules.h"
#include "trireme/config/schema/sections.h"

namespace trireme {

void add_keys(std::vector<ConfigKey>& keys, Config::Model& c) {
  const std::vector<std::string> networks = {"mlp", "cnn"};
  const std::vector<std::string> transformers = {"gpt2", "llama"};
  const KeyAdder add{keys, "model."};
  add("name", &c.name,
      "linear or logistic regression, multi-layer perceptron, small CNN, ResNet-18, a transformer "
      "that predicts tokens, or a TorchScript file",
      one_of({"linear", "logistic", "mlp", "cnn", "resnet18", "gpt2", "llama", "torchscript"}));
  add("hidden", &c.hidden,
      "widths of the hidden layers; empty: [512, 512] for an mlp, [128] for a cnn",
      positive_integers())
      .used_with("model.name", networks);
  add("channels", &c.channels, "channels of each convolution", positive_integers())
      .used_with("model.name", {"cnn"});
  add("kernel", &c.kernel, "side of the kernels, in pixels", positive_up_to(1 << 16))
      .used_with("model.name", {"cnn"});
  add("activation", &c.activation, "after each hidden layer",
      one_of({"relu", "tanh", "gelu", "sigmoid"}))
      .used_with("model.name", networks);
  add("batch_norm", &c.batch_norm, "normalize after each convolution", anything())
      .used_with("model.name", {"cnn"});
  add("dropout", &c.dropout, "fraction of the hidden values that is set to zero", fraction())
      .used_with("model.name", {"mlp", "cnn", "gpt2", "llama"});
  add("stem", &c.stem,
      "first layers; small: a 3x3 convolution; imagenet: a 7x7 convolution and max-pooling, a "
      "quarter of the side; auto: small for images of at most 64 pixels a side",
      one_of({"auto", "small", "imagenet"}))
      .used_with("model.name", {"resnet18"});
  add("stem_channels", &c.stem_channels,
      "channels after the first layers; the four stages have 1, 2, 4 and 8 times as many",
      positive_up_to(1 << 16))
      .used_with("model.name", {"resnet18"});
  const auto transformer = [&](const char* name, ConfigKey::Target value, const char* meaning,
                               ConfigKey::Rule rule) {
    add(name, value, meaning, std::move(rule)).used_with("model.name", transformers);
  };
  transformer("layers", &c.layers, "number of layers, each of attention and an MLP",
              positive_up_to(1 << 16));
  transformer("width", &c.width, "values of a token between layers, a multiple of heads",
              positive_up_to(1 << 24));
  transformer("heads", &c.heads, "heads of attention", positive_up_to(1 << 16));
  add("kv_heads", &c.kv_heads, "heads of keys and values, a divisor of heads; 0: heads",
      up_to(1 << 16))
      .used_with("model.name", {"llama"});
  transformer(
      "mlp_width", &c.mlp_width,
      "hidden values of each MLP; 0: 4 width for gpt2, 8/3 width rounded up to a multiple of "
      "32 for llama",
      up_to(1 << 24));
  transformer("context", &c.context, "tokens of a sample: the most that the model sees at once",
              positive_up_to(1 << 24));
  transformer("vocabulary", &c.vocabulary,
              "tokens that the model knows, at least those of the data; 0: as many",
              up_to(kMaxWidth));
  transformer("tie_embeddings", &c.tie_embeddings, "the output layer is the embedding", anything());
  transformer("norm_eps", &c.norm_eps, "added to variances before their root is taken", positive());
  add("rope_theta", &c.rope_theta, "base of the angles of rotary positions", positive())
      .used_with("model.name", {"llama"});
  add("init", &c.init,
      "initial weights; default: as libtorch initializes them, and those of resnet18 as "
      "torchvision",
      one_of({"default", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal",
              "orthogonal", "zero"}));
  add("weights", &c.weights,
      "a safetensors file, such as model.safetensors of a run, or the index of several, whose "
      "values parameters and buffers start with; empty: none",
      anything())
      .names_files();
  add("path", &c.path, "the file; it may run code, so use only files that you trust", anything())
      .used_with("model.name", {"torchscript"})
      .names_files();
}

}  // namespace trireme
