#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

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
class LinearModule : public torch::nn::LinearImpl {
 public:
  LinearModule(std::int64_t inputs, std::int64_t outputs);
  /// input: [n, ...] with `inputs` elements a sample; returns [n, outputs].
  at::Tensor forward(const at::Tensor& input);
};

/// Linear layers "layers.0", "layers.1", ..., all but the last followed by `hidden`.
class MlpModule : public torch::nn::Module {
 public:
  MlpModule(std::int64_t inputs, std::span<const std::int64_t> widths, std::int64_t outputs,
            Hidden hidden);
  /// As LinearModule::forward.
  at::Tensor forward(const at::Tensor& input);

 private:
  std::vector<torch::nn::Linear> layers_;
  Hidden hidden_;
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

/// Blocks "blocks.0", ... of convolution (the image keeps its size), batch normalisation,
/// activation and 2x2 max-pooling; then an MlpModule "head".
class CnnModule : public torch::nn::Module {
 public:
  CnnModule(const CnnShape& shape, Hidden hidden);
  /// input: [n, image_channels, rows, columns], or without image_channels if that is 1.
  at::Tensor forward(const at::Tensor& input);

 private:
  struct Block : torch::nn::Module {
    Block(std::int64_t in, std::int64_t out, const CnnShape& shape);
    torch::nn::Conv2d convolution{nullptr};
    torch::nn::BatchNorm2d normalisation{nullptr};
  };

  std::vector<std::shared_ptr<Block>> blocks_;
  std::shared_ptr<MlpModule> head_;
  Hidden hidden_;
};

}  // namespace trireme
