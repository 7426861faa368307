#include "trireme/config/schema/rules.h"
#include "trireme/config/schema/sections.h"

namespace trireme {

void add_keys(std::vector<ConfigKey>& keys, Config::Model& c) {
  const std::vector<std::string> networks = {"mlp", "cnn"};
  const KeyAdder add{keys, "model."};
  add("name", &c.name,
      "linear or logistic regression, multi-layer perceptron, small CNN, or a TorchScript file",
      one_of({"linear", "logistic", "mlp", "cnn", "torchscript"}));
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
      .used_with("model.name", networks);
  add("init", &c.init, "initial weights; default: as libtorch initializes them",
      one_of({"default", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal",
              "orthogonal", "zero"}));
  add("weights", &c.weights,
      "a safetensors file, such as model.safetensors of a run, whose values parameters and buffers "
      "start with; empty: none",
      anything())
      .names_files();
  add("path", &c.path, "the file; it may run code, so use only files that you trust", anything())
      .used_with("model.name", {"torchscript"})
      .names_files();
}

}  // namespace trireme
