#include "trireme/model/layers.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/nn/modules/container/modulelist.h>

#include "trireme/base/error.h"

namespace trireme {

namespace {

at::Tensor typed(const at::Tensor& input, const at::Tensor& weight) {
  return input.scalar_type() == weight.scalar_type() ? input : input.to(weight.scalar_type());
}

at::Tensor as_rows(const at::Tensor& input) {
  return input.dim() == 2 ? input : input.flatten(1);
}

// The same images with the channels of a pixel side by side, an order that the layers after a
// convolution keep: libtorch pools and normalises several times faster so.
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

LinearModule::LinearModule(std::int64_t inputs, std::int64_t outputs)
    : LinearImpl(inputs, outputs) {}

at::Tensor LinearModule::forward(const at::Tensor& input) {
  return at::linear(as_rows(typed(input, weight)), weight, bias);
}

MlpModule::MlpModule(std::int64_t inputs, std::span<const std::int64_t> widths,
                     std::int64_t outputs, Hidden hidden)
    : hidden_(hidden) {
  for (const std::int64_t width : widths) {
    layers_.emplace_back(inputs, width);
    inputs = width;
  }
  layers_.emplace_back(inputs, outputs);
  torch::nn::ModuleList list;
  for (const auto& layer : layers_) list->push_back(layer);
  register_module("layers", list);
}

at::Tensor MlpModule::forward(const at::Tensor& input) {
  at::Tensor x = as_rows(typed(input, layers_.front()->weight));
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    x = at::linear(x, layers_[i]->weight, layers_[i]->bias);
    if (i + 1 == layers_.size()) break;
    x = hidden_.activation(x);
    if (hidden_.dropout > 0) x = at::dropout(x, hidden_.dropout, is_training());
  }
  return x;
}

CnnModule::Block::Block(std::int64_t in, std::int64_t out, const CnnShape& shape) {
  // The normalisation subtracts whatever a bias adds.
  const auto options = torch::nn::Conv2dOptions(in, out, shape.kernel)
                           .padding(shape.kernel / 2)
                           .bias(!shape.batch_norm);
  convolution = register_module("convolution", torch::nn::Conv2d(options));
  if (shape.batch_norm) {
    normalisation = register_module("normalisation", torch::nn::BatchNorm2d(out));
  }
}

CnnModule::CnnModule(const CnnShape& shape, Hidden hidden) : hidden_(hidden) {
  std::int64_t channels = shape.image_channels;
  std::int64_t pixels_down = shape.rows;
  std::int64_t pixels_across = shape.columns;
  torch::nn::ModuleList list;
  for (const std::int64_t out : shape.channels) {
    blocks_.push_back(std::make_shared<Block>(channels, out, shape));
    list->push_back(blocks_.back());
    channels = out;
    pixels_down /= 2;
    pixels_across /= 2;
  }
  register_module("blocks", list);
  head_ =
      register_module("head", std::make_shared<MlpModule>(channels * pixels_down * pixels_across,
                                                          shape.hidden, shape.outputs, hidden));
}

at::Tensor CnnModule::forward(const at::Tensor& input) {
  at::Tensor x = typed(input, blocks_.front()->convolution->weight);
  if (x.dim() == 3) x = x.unsqueeze(1);
  x = channels_last(x);
  for (const auto& block : blocks_) {
    x = block->convolution->forward(x);
    if (block->normalisation) x = block->normalisation->forward(x);
    x = hidden_.activation(x);
    x = at::max_pool2d(x, 2);
  }
  return head_->forward(x);
}

}  // namespace trireme
