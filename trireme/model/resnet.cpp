#include "trireme/model/resnet.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>

#include <cmath>
#include <memory>
#include <string>

#include "trireme/model/init.h"
#include "trireme/model/module_block.h"

namespace trireme {

namespace {

// Batch normalization, which follows, subtracts whatever a bias adds.
torch::nn::Conv2d convolution(std::int64_t in, std::int64_t out, std::int64_t kernel,
                              std::int64_t stride) {
  return torch::nn::Conv2d(
      torch::nn::Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2).bias(false));
}

class Stem final : public torch::nn::Module {
 public:
  explicit Stem(const ResnetShape& shape)
      : shrinks_(shape.stem == ResnetStem::kImagenet),
        conv1_(register_module("conv1", convolution(shape.image_channels, shape.stem_channels,
                                                    shrinks_ ? 7 : 3, shrinks_ ? 2 : 1))),
        bn1_(register_module("bn1", torch::nn::BatchNorm2d(shape.stem_channels))) {}

  at::Tensor forward(const at::Tensor& input) {
    at::Tensor x = bn1_->forward(conv1_->forward(as_images(input, conv1_->weight))).relu_();
    return shrinks_ ? at::max_pool2d(x, /*kernel_size=*/3, /*stride=*/2, /*padding=*/1) : x;
  }

 private:
  bool shrinks_;
  torch::nn::Conv2d conv1_;
  torch::nn::BatchNorm2d bn1_;
};

// What a 1x1 convolution with a stride of 2 sees of x, so that it can have a stride of 1: oneDNN's,
// in libtorch 1.13, writes past its memory if a pixel has fewer than 8 channels.
at::Tensor every_second_pixel(const at::Tensor& x) {
  return x.slice(2, 0, c10::nullopt, 2).slice(3, 0, c10::nullopt, 2);
}

class ResidualBlock final : public torch::nn::Module {
 public:
  // stride: 1 if in == out, else 2
  ResidualBlock(std::int64_t in, std::int64_t out, std::int64_t stride)
      : conv1_(register_module("conv1", convolution(in, out, 3, stride))),
        bn1_(register_module("bn1", torch::nn::BatchNorm2d(out))),
        conv2_(register_module("conv2", convolution(out, out, 3, 1))),
        bn2_(register_module("bn2", torch::nn::BatchNorm2d(out))) {
    if (stride == 1) return;
    downsample_ = register_module("downsample", torch::nn::Sequential(convolution(in, out, 1, 1),
                                                                      torch::nn::BatchNorm2d(out)));
  }

  // x: [n, in, rows, columns]
  at::Tensor forward(const at::Tensor& x) {
    at::Tensor y = bn1_->forward(conv1_->forward(x)).relu_();
    y = bn2_->forward(conv2_->forward(y));
    return y.add_(downsample_ ? downsample_->forward(every_second_pixel(x)) : x).relu_();
  }

 private:
  torch::nn::Conv2d conv1_;
  torch::nn::BatchNorm2d bn1_;
  torch::nn::Conv2d conv2_;
  torch::nn::BatchNorm2d bn2_;
  torch::nn::Sequential downsample_{nullptr};
};

class Head final : public torch::nn::Module {
 public:
  Head(std::int64_t channels, std::int64_t outputs)
      : fc_(register_module("fc", std::make_shared<LinearLayer>(channels, outputs))) {}

  // x: [n, channels, rows, columns]
  at::Tensor forward(const at::Tensor& x) { return fc_->forward(x.mean({2, 3})); }

  void set_compute(const ComputeType& compute) { fc_->set_compute(compute); }

 private:
  std::shared_ptr<LinearLayer> fc_;
};

}  // namespace

Blocks resnet18_blocks(const ResnetShape& shape, const BlockDone& done) {
  constexpr std::int64_t kStages = 4, kBlocksOfStage = 2;
  Blocks blocks;
  append_module(blocks, std::make_shared<Stem>(shape), "", done);
  std::int64_t channels = shape.stem_channels;
  for (std::int64_t stage = 0; stage < kStages; ++stage) {
    for (std::int64_t block = 0; block < kBlocksOfStage; ++block) {
      const std::int64_t stride = stage > 0 && block == 0 ? 2 : 1;
      append_module(blocks, std::make_shared<ResidualBlock>(channels, channels * stride, stride),
                    fmt::format("layer{}.{}.", stage + 1, block), done);
      channels *= stride;
    }
  }
  append_module(blocks, std::make_shared<Head>(channels, shape.outputs), "", done);
  return blocks;
}

InitialValues resnet_initial_values(const NamedTensors& model, std::uint64_t seed) {
  return [seed, linear = initial_values(model, "default", seed)](const NamedTensor& parameter) {
    const auto& [name, weight] = parameter;
    if (weight.dim() == 4) {
      const auto connections = static_cast<double>(weight.numel() / weight.size(1));
      set_normal(weight, name, std::sqrt(2 / connections), seed);
    } else if (name.starts_with("fc.")) {
      linear(parameter);
    }
  };
}

}  // namespace trireme
