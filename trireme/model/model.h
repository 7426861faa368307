#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trireme/data/dataset.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// What the trainer trains. One thread at a time.
class Model {
 public:
  virtual ~Model() = default;

  /// input: [n, ...], n samples; returns [n, outputs].
  virtual at::Tensor forward(const at::Tensor& input) = 0;

  /// The tensors that forward() uses, not copies. A strategy may give each parameter other memory
  /// of the same shape and type with set_data(), before any step; forward() then uses that.
  virtual NamedTensors tensors() const = 0;

  /// True for training; false for evaluation, where dropout does nothing and batch normalisation
  /// uses its running statistics.
  virtual void train(bool on) = 0;
};

struct ModelOptions {
  /// linear       linear regression: y = W x + b
  /// logistic     logistic regression on two or more classes: log-odds W x + b
  /// mlp          linear layers with an activation and dropout between them
  /// cnn          blocks of convolution, batch normalisation, activation and 2x2 max-pooling, then
  ///              an mlp over what is left of the image
  /// torchscript  the TorchScript file at `path`
  std::string name = "linear";
  std::string loss = "auto";  ///< what the outputs are for, see make_loss()
  std::string dtype = "f32";  ///< f32 or f64
  /// See initialise(); a TorchScript file keeps its own values unless another than "default" is
  /// asked for.
  std::string init = "default";
  std::uint64_t seed = 0;

  std::optional<std::vector<std::int64_t>> hidden;  ///< widths; mlp: 512, 512; cnn: 128
  std::string activation = "relu";                  ///< relu, tanh, gelu or sigmoid
  double dropout = 0;                               ///< of the hidden layers, in [0, 1)
  std::vector<std::int64_t> channels = {32, 64};    ///< of the cnn's blocks
  std::int64_t kernel = 3;                          ///< an odd number of pixels
  bool batch_norm = true;
  std::filesystem::path path;
};

/// input_shape: of one sample, [features] or, for images, [channels, rows, columns] or
/// [rows, columns]. Throws UsageError for options that are unknown, impossible or do not suit the
/// data, DataError for a file that is not such a model.
std::unique_ptr<Model> make_model(const ModelOptions& options,
                                  std::span<const std::int64_t> input_shape, const Target& target);

}  // namespace trireme
