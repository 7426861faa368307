#pragma once

#include <cstdint>

#include "trireme/model/init.h"
#include "trireme/model/layers.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// The first layers of a ResNet.
enum class ResnetStem : std::uint8_t {
  kSmall,    ///< 3x3 convolution: the image keeps its size (He et al. 2016, section 4.2)
  kImagenet  ///< 7x7 convolution with stride 2, 3x3 max-pooling with stride 2: a quarter of the
             ///< side
};

/// The sizes of a ResNet.
struct ResnetShape {
  std::int64_t image_channels = 3;
  ResnetStem stem = ResnetStem::kImagenet;
  std::int64_t stem_channels = 64;  ///< the four stages have 1, 2, 4 and 8 times as many
  std::int64_t outputs = 0;
};

/// ResNet-18 (He et al. 2016, "Deep Residual Learning for Image Recognition"): a stem, four stages
/// of two residual blocks, of which all but the first halve the image, the mean over what is left
/// of it, a linear layer. A block each: the stem, the eight residual blocks, the head. Tensors have
/// the names and shapes of torchvision's resnet18: "conv1.weight", "bn1.running_mean",
/// "layer1.0.conv1.weight", "layer2.0.downsample.1.bias", ..., "fc.weight" [outputs, 8
/// stem_channels].
///
/// Input: [n, image_channels, rows, columns], or without image_channels if that is 1; output:
/// [n, outputs].
Blocks resnet18_blocks(const ResnetShape& shape, const BlockDone& done = {});

/// torchvision's initial values for `model`, which depend on `seed` and the parameter's name alone:
/// weights of convolutions N(0, sqrt(2 / n_out)) with n_out connections out of a unit
/// (He et al. 2015, section 2.2), scales of batch normalization 1, their biases 0, the linear layer
/// as initialize() has it.
InitialValues resnet_initial_values(const NamedTensors& model, std::uint64_t seed);

}  // namespace trireme
