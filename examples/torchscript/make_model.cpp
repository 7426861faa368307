// Writes a network for the digits as TorchScript, for torchscript.toml:
//
//   build/release/examples/make_torchscript_model runs/model.pt
//
// Python's torch.jit.script(model).save("runs/model.pt") writes the same kind of file.
#include <torch/script.h>

#include <cmath>
#include <filesystem>
#include <iostream>

using torch::jit::Module;

// y = x W^T + b with the initial values of torch.nn.Linear.
Module linear(std::int64_t inputs, std::int64_t outputs) {
  const double bound = 1 / std::sqrt(static_cast<double>(inputs));
  const auto initial = [&](torch::IntArrayRef shape) {
    return torch::empty(shape)
        .uniform_(-bound, bound)
        .requires_grad_();  // otherwise it is not trained
  };
  Module layer("Linear");
  layer.register_parameter("weight", initial({outputs, inputs}), false);
  layer.register_parameter("bias", initial({outputs}), false);
  layer.define(R"(
    def forward(self, x):
      return torch.addmm(self.bias, x, self.weight.t())
  )");
  return layer;
}

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: make_torchscript_model FILE.pt\n";
    return 2;
  }
  torch::manual_seed(1);
  Module network("Digits");
  network.register_module("expand", linear(64, 96));
  network.register_module("classify", linear(96, 10));
  network.define(R"(
    def forward(self, pixels):
      hidden = torch.tanh(self.expand.forward(pixels))
      return self.classify.forward(hidden)
  )");
  const std::filesystem::path path = argv[1];
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path());
  network.save(path.string());
}
