#pragma once

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/model/block.h"

namespace trireme {

/// An elementwise function that may overwrite its argument.
using Activation = at::Tensor (*)(at::Tensor&);

/// relu, tanh, gelu or sigmoid; throws UsageError for others.
Activation activation_named(std::string_view name);

/// What follows each hidden layer.
struct Hidden {
  Activation activation;
  double dropout = 0;
};

/// One linear layer over samples of any shape; parameters "weight" and "bias".
class LinearLayer : public torch::nn::LinearImpl {
 public:
  /// `hidden` follows the layer; nothing follows the last layer of a model.
  LinearLayer(std::int64_t inputs, std::int64_t outputs,
              std::optional<Hidden> hidden = std::nullopt);

  /// input: [n, ...] with `inputs` elements a sample; returns [n, outputs].
  at::Tensor forward(const at::Tensor& input);

  /// Dropout draws from a generator of the layer's own from now on, so that ranks which are threads
  /// of one process do not disturb each other. With the same seed it draws what libtorch's dropout
  /// draws after at::manual_seed(). Until the first call it draws from libtorch's generator.
  void seed(std::uint64_t seed);

  void set_compute(const ComputeType& compute) { compute_ = compute; }

 private:
  at::Tensor dropout(const at::Tensor& x) const;

  std::optional<Hidden> hidden_;
  ComputeType compute_;
  at::Generator generator_;
};

/// Returns `input` for a convolution with `weight`: [n, channels, rows, columns], also where it is
/// [n, rows, columns], in the type of the weight, with the channels of a pixel side by side in
/// memory, an order that the layers after a convolution keep.
at::Tensor as_images(const at::Tensor& input, const at::Tensor& weight);

/// Convolution (the image keeps its size), batch normalization, activation and 2x2 max-pooling.
/// Parameters "convolution.*" and "normalisation.*".
class ConvolutionLayer : public torch::nn::Module {
 public:
  ConvolutionLayer(std::int64_t in_channels, std::int64_t out_channels, std::int64_t kernel,
                   bool batch_norm, Activation activation);

  /// input: [n, in_channels, rows, columns], or without in_channels if that is 1.
  at::Tensor forward(const at::Tensor& input);

 private:
  torch::nn::Conv2d convolution_{nullptr};
  torch::nn::BatchNorm2d normalization_{nullptr};
  Activation activation_;
};

struct CnnShape {
  std::int64_t image_channels = 1;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::vector<std::int64_t> channels;
  std::int64_t kernel = 3;
  bool batch_norm = true;
  std::vector<std::int64_t> hidden;
  std::int64_t outputs = 0;
};

using Blocks = std::vector<std::unique_ptr<Block>>;

/// A single block without a prefix: "weight" and "bias".
Blocks linear_blocks(std::int64_t inputs, std::int64_t outputs, const BlockDone& done = {});

/// Linear layers, a block each: PREFIX"layers.0", PREFIX"layers.1", ... All but the last are
/// followed by `hidden`.
Blocks mlp_blocks(std::int64_t inputs, std::span<const std::int64_t> widths, std::int64_t outputs,
                  Hidden hidden, const std::string& prefix = "", const BlockDone& done = {});

/// Convolution layers, a block each: "blocks.0", "blocks.1", ...; then an mlp with the prefix
/// "head.".
Blocks cnn_blocks(const CnnShape& shape, Hidden hidden, const BlockDone& done = {});

}  // namespace trireme
