#include "trireme/model/layers.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "trireme/base/error.h"
#include "trireme/model/module_block.h"

namespace trireme {

namespace {

at::Tensor typed(const at::Tensor& input, const at::Tensor& weight) {
  return input.scalar_type() == weight.scalar_type() ? input : input.to(weight.scalar_type());
}

at::Tensor as_rows(const at::Tensor& input) {
  return input.dim() == 2 ? input : input.flatten(1);
}

// libtorch pools and normalizes several times faster in this order.
at::Tensor channels_last(const at::Tensor& images) {
  if (images.size(1) > 1) return images.contiguous(at::MemoryFormat::ChannelsLast);
  // With one channel both orders are the same memory, and the strides alone tell which is meant.
  const auto rows = images.size(2), columns = images.size(3);
  return images.contiguous().as_strided(images.sizes(), {rows * columns, 1, columns, 1});
}

}  // namespace

Activation activation_named(std::string_view name) {
  if (name == "relu") return [](at::Tensor& x) { return x.relu_(); };
  if (name == "tanh") return [](at::Tensor& x) { return x.tanh_(); };
  if (name == "sigmoid") return [](at::Tensor& x) { return x.sigmoid_(); };
  if (name == "gelu") return [](at::Tensor& x) { return at::gelu(x); };
  throw UsageError(
      fmt::format("model.activation must be one of relu, tanh, gelu, sigmoid; got \"{}\"", name));
}

LinearLayer::LinearLayer(std::int64_t inputs, std::int64_t outputs, std::optional<Hidden> hidden)
    : LinearImpl(inputs, outputs), hidden_(hidden) {}

at::Tensor LinearLayer::forward(const at::Tensor& input) {
  at::Tensor x = linear({as_rows(typed(input, weight)), compute_}, weight, bias);
  if (!hidden_) return x;
  x = hidden_->activation(x);
  return is_training() && hidden_->dropout > 0 ? dropout(x) : x;
}

void LinearLayer::seed(std::uint64_t seed) {
  if (!hidden_ || hidden_->dropout == 0) return;
  if (!generator_.defined()) generator_ = at::detail::createCPUGenerator();
  generator_.set_current_seed(seed);
}

// at::dropout() with a generator, for which that has no argument.
at::Tensor LinearLayer::dropout(const at::Tensor& x) const {
  const double kept = 1 - hidden_->dropout;
  return x * at::empty_like(x).bernoulli_(kept, generator_).div_(kept);
}

at::Tensor as_images(const at::Tensor& input, const at::Tensor& weight) {
  const at::Tensor x = typed(input, weight);
  return channels_last(x.dim() == 3 ? x.unsqueeze(1) : x);
}

ConvolutionLayer::ConvolutionLayer(std::int64_t in_channels, std::int64_t out_channels,
                                   std::int64_t kernel, bool batch_norm, Activation activation)
    : activation_(activation) {
  // Batch normalization subtracts whatever a bias adds.
  const auto options = torch::nn::Conv2dOptions(in_channels, out_channels, kernel)
                           .padding(kernel / 2)
                           .bias(!batch_norm);
  convolution_ = register_module("convolution", torch::nn::Conv2d(options));
  if (batch_norm) {
    normalization_ = register_module("normalisation", torch::nn::BatchNorm2d(out_channels));
  }
}

at::Tensor ConvolutionLayer::forward(const at::Tensor& input) {
  at::Tensor x = convolution_->forward(as_images(input, convolution_->weight));
  if (normalization_) x = normalization_->forward(x);
  x = activation_(x);
  return at::max_pool2d(x, 2);
}

Blocks linear_blocks(std::int64_t inputs, std::int64_t outputs, const BlockDone& done) {
  Blocks blocks;
  append_module(blocks, std::make_shared<LinearLayer>(inputs, outputs), "", done);
  return blocks;
}

Blocks mlp_blocks(std::int64_t inputs, std::span<const std::int64_t> widths, std::int64_t outputs,
                  Hidden hidden, const std::string& prefix, const BlockDone& done) {
  Blocks blocks;
  for (const std::int64_t width : widths) {
    append_module(blocks, std::make_shared<LinearLayer>(inputs, width, hidden),
                  fmt::format("{}layers.{}.", prefix, blocks.size()), done);
    inputs = width;
  }
  append_module(blocks, std::make_shared<LinearLayer>(inputs, outputs),
                fmt::format("{}layers.{}.", prefix, blocks.size()), done);
  return blocks;
}

Blocks cnn_blocks(const CnnShape& shape, Hidden hidden, const BlockDone& done) {
  Blocks blocks;
  std::int64_t channels = shape.image_channels;
  std::int64_t rows = shape.rows;
  std::int64_t columns = shape.columns;
  for (const std::int64_t out : shape.channels) {
    append_module(blocks,
                  std::make_shared<ConvolutionLayer>(channels, out, shape.kernel, shape.batch_norm,
                                                     hidden.activation),
                  fmt::format("blocks.{}.", blocks.size()), done);
    channels = out;
    rows /= 2;
    columns /= 2;
  }
  Blocks head =
      mlp_blocks(channels * rows * columns, shape.hidden, shape.outputs, hidden, "head.", done);
  std::ranges::move(head, std::back_inserter(blocks));
  return blocks;
}

}  // namespace trireme
