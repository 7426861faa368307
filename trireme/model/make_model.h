#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trireme/comm/mesh.h"
#include "trireme/data/dataset.h"
#include "trireme/model/gpt/gpt.h"
#include "trireme/model/model.h"

namespace trireme {

struct ModelOptions {
  /// linear       linear regression: y = W x + b
  /// logistic     logistic regression on two or more classes: log-odds W x + b
  /// mlp          linear layers with an activation and dropout between them
  /// cnn          layers of convolution, batch normalization, activation and 2x2 max-pooling, then
  ///              an mlp over what is left of the image
  /// resnet18     a residual network for images: resnet18_blocks()
  /// gpt2, llama  a transformer that predicts the next token; its sizes are `gpt`
  /// torchscript  the TorchScript file at `path`
  std::string name = "linear";
  std::string loss = "auto";  ///< what the outputs are for, see make_loss()
  std::string dtype = "f32";  ///< f32 or f64
  /// See initialize(). A TorchScript file keeps its own values if this is "default".
  std::string init = "default";
  std::uint64_t seed = 0;

  std::optional<std::vector<std::int64_t>> hidden;  ///< widths; mlp: 512, 512; cnn: 128
  std::string activation = "relu";                  ///< relu, tanh, gelu or sigmoid
  double dropout = 0;                               ///< of the hidden layers, in [0, 1)
  std::vector<std::int64_t> channels = {32, 64};    ///< of the cnn's convolution layers
  std::int64_t kernel = 3;                          ///< an odd number of pixels
  bool batch_norm = true;
  /// Of resnet18: "small", "imagenet" (see ResnetStem) or "auto": small for images of at most 64
  /// pixels a side.
  std::string stem = "auto";
  std::int64_t stem_channels = 64;
  /// Of gpt2 and llama. Its context is the length of a sample, its dropout is `dropout`; 0 stands
  /// for: as many tokens as the target has (vocabulary), heads (kv_heads), 4 width for gpt2 and 8/3
  /// width, rounded up to a multiple of 32, for llama (mlp_width).
  GptShape gpt;
  std::filesystem::path path;
  /// See Model::defer_weights(): at most one block's weights have memory at a time. A TorchScript
  /// file is held whole all the same.
  bool defers_weights = false;
};

/// The sizes of a transformer, gpt2 or llama, for samples of this shape. Throws UsageError if they
/// are no tokens or do not fit.
GptShape gpt_shape(const ModelOptions& options, std::span<const std::int64_t> input_shape,
                   const Target& target);

/// Makes a model that each rank holds whole: a block for each layer, or a single block if it comes
/// from a TorchScript file. input_shape: of one sample, [features] or, for images, [channels, rows,
/// columns] or [rows, columns]. Throws UsageError for options that are unknown, impossible or do
/// not suit the data, DataError for a file that is not such a model.
std::unique_ptr<Model> make_model(const ModelOptions& options,
                                  std::span<const std::int64_t> input_shape, const Target& target);

/// The same for the ranks of `mesh`, which must outlive the model: its communicators are what
/// blocks that are cut over ranks will use. No built-in model is cut so far.
std::unique_ptr<Model> make_model(const ModelOptions& options,
                                  std::span<const std::int64_t> input_shape, const Target& target,
                                  const Mesh& mesh);

}  // namespace trireme
