#pragma once

#include <torch/csrc/jit/api/module.h>

#include <filesystem>

#include "trireme/model/block.h"

namespace trireme {

/// A TorchScript file as a block: its parameters and buffers have the dotted names that
/// named_parameters() of the Python module shows. Loading runs code from the file, so only files
/// that the user names are opened.
class ScriptBlock final : public Block {
 public:
  /// Throws UsageError if there is no such file, DataError if it is no TorchScript module with a
  /// forward method and at least one parameter that requires a gradient.
  explicit ScriptBlock(const std::filesystem::path& path);

  /// Throws DataError with TorchScript's own explanation if the code fails.
  at::Tensor forward(const at::Tensor& input) override;
  NamedTensors tensors() const override;
  void train(bool on) override;

 private:
  std::filesystem::path path_;
  torch::jit::Module module_;
};

}  // namespace trireme
