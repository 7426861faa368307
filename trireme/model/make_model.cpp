#include "trireme/model/make_model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <ranges>

#include "trireme/base/error.h"
#include "trireme/model/deferred_weights.h"
#include "trireme/model/init.h"
#include "trireme/model/layers.h"
#include "trireme/model/loss.h"
#include "trireme/model/resnet.h"
#include "trireme/model/script_block.h"

namespace trireme {

namespace {

using Shape = std::span<const std::int64_t>;

std::int64_t elements(Shape shape) {
  std::int64_t n = 1;
  for (const std::int64_t size : shape) n *= size;
  return n;
}

void require_positive(std::span<const std::int64_t> sizes, std::string_view option) {
  for (const std::int64_t size : sizes) {
    if (size > 0) continue;
    throw UsageError(
        fmt::format("model.{} must be positive numbers, got [{}]", option, fmt::join(sizes, ", ")));
  }
}

at::ScalarType scalar_type_named(std::string_view dtype) {
  if (dtype == "f32") return at::kFloat;
  if (dtype == "f64") return at::kDouble;
  throw UsageError(fmt::format("model.dtype must be f32 or f64, got \"{}\"", dtype));
}

Hidden hidden_of(const ModelOptions& options) {
  if (!(options.dropout >= 0 && options.dropout < 1)) {
    throw UsageError(
        fmt::format("model.dropout must be at least 0 and below 1, got {}", options.dropout));
  }
  return {activation_named(options.activation), options.dropout};
}

Blocks make_linear(std::string_view name, Shape input, const Target& target, std::int64_t outputs,
                   const BlockDone& done) {
  const bool numbers = target.is_numbers();
  if (numbers && name == "logistic") {
    throw UsageError("model logistic predicts classes, and the target is numbers: use linear");
  }
  if (!numbers && name == "linear") {
    throw UsageError(
        fmt::format("model linear predicts numbers, and the target has {} classes: use logistic",
                    target.classes));
  }
  return linear_blocks(elements(input), outputs, done);
}

Blocks make_mlp(const ModelOptions& options, Shape input, std::int64_t outputs,
                const BlockDone& done) {
  const auto hidden = options.hidden.value_or(std::vector<std::int64_t>{512, 512});
  require_positive(hidden, "hidden");
  return mlp_blocks(elements(input), hidden, outputs, hidden_of(options), "", done);
}

struct ImageShape {
  std::int64_t channels = 1;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

ImageShape image_shape(std::string_view model, Shape input) {
  if (input.size() != 2 && input.size() != 3) {
    throw UsageError(fmt::format(
        "model {} needs images, [channels, rows, columns]; a sample of this data is [{}]: use mlp",
        model, fmt::join(input, ", ")));
  }
  return {.channels = input.size() == 3 ? input[0] : 1,
          .rows = input[input.size() - 2],
          .columns = input[input.size() - 1]};
}

void check_image(const CnnShape& shape) {
  require_positive(shape.channels, "channels");
  require_positive(shape.hidden, "hidden");
  if (shape.channels.empty()) throw UsageError("model.channels must name at least one block");
  if (shape.kernel < 1 || shape.kernel % 2 == 0) {
    throw UsageError(fmt::format("model.kernel must be odd, got {}", shape.kernel));
  }
  // Each block halves the image.
  const std::int64_t smaller = std::min(shape.rows, shape.columns);
  if (shape.channels.size() >= 63 || smaller >> shape.channels.size() == 0) {
    throw UsageError(
        fmt::format("model.channels: {} blocks halve an image of {}x{} to nothing; use fewer",
                    shape.channels.size(), shape.rows, shape.columns));
  }
}

Blocks make_cnn(const ModelOptions& options, Shape input, std::int64_t outputs,
                const BlockDone& done) {
  const ImageShape image = image_shape(options.name, input);
  CnnShape shape;
  shape.image_channels = image.channels;
  shape.rows = image.rows;
  shape.columns = image.columns;
  shape.channels = options.channels;
  shape.kernel = options.kernel;
  shape.batch_norm = options.batch_norm;
  shape.hidden = options.hidden.value_or(std::vector<std::int64_t>{128});
  shape.outputs = outputs;
  check_image(shape);
  return cnn_blocks(shape, hidden_of(options), done);
}

ResnetStem stem_named(std::string_view name, const ImageShape& image) {
  constexpr std::int64_t kSmallSide = 64;
  if (name == "small") return ResnetStem::kSmall;
  if (name == "imagenet") return ResnetStem::kImagenet;
  if (name == "auto") {
    const bool is_small = std::max(image.rows, image.columns) <= kSmallSide;
    return is_small ? ResnetStem::kSmall : ResnetStem::kImagenet;
  }
  throw UsageError(
      fmt::format("model.stem must be one of auto, small, imagenet; got \"{}\"", name));
}

Blocks make_resnet18(const ModelOptions& options, Shape input, std::int64_t outputs,
                     const BlockDone& done) {
  const ImageShape image = image_shape(options.name, input);
  require_positive({&options.stem_channels, 1}, "stem_channels");
  return resnet18_blocks({.image_channels = image.channels,
                          .stem = stem_named(options.stem, image),
                          .stem_channels = options.stem_channels,
                          .outputs = outputs},
                         done);
}

// Checks before the first step whether the file suits the data.
void check_outputs(Model& model, const ModelOptions& options, Shape input, std::int64_t outputs) {
  const at::NoGradGuard no_grad;
  std::vector<std::int64_t> shape = {2};
  shape.insert(shape.end(), input.begin(), input.end());
  model.train(false);
  const at::Tensor output = model.forward(at::zeros(shape, scalar_type_named(options.dtype)));
  model.train(true);
  const bool is_right = output.sizes() == at::IntArrayRef({2, outputs}) ||
                        (outputs == 1 && output.sizes() == at::IntArrayRef({2}));
  if (!is_right) {
    throw DataError(fmt::format(
        "{}: forward of [{}] must give [2, {}] for loss {}, got [{}]; change the file or the loss",
        options.path.string(), fmt::join(shape, ", "), outputs, options.loss,
        fmt::join(output.sizes(), ", ")));
  }
}

bool is_gpt(const ModelOptions& options) {
  return options.name == "gpt2" || options.name == "llama";
}

Blocks make_torchscript(const ModelOptions& options, const BlockDone& done) {
  Blocks blocks;
  append_block(blocks, std::make_unique<ScriptBlock>(options.path), done);
  return blocks;
}

Blocks make_blocks(const ModelOptions& options, Shape input, const Target& target,
                   std::int64_t outputs, const BlockDone& done) {
  if (options.name == "linear" || options.name == "logistic") {
    return make_linear(options.name, input, target, outputs, done);
  }
  if (options.name == "mlp") return make_mlp(options, input, outputs, done);
  if (options.name == "cnn") return make_cnn(options, input, outputs, done);
  if (options.name == "resnet18") return make_resnet18(options, input, outputs, done);
  if (options.name == "gpt2") return gpt2_blocks(gpt_shape(options, input, target), done);
  if (options.name == "llama") return llama_blocks(gpt_shape(options, input, target), done);
  if (options.name == "torchscript") return make_torchscript(options, done);
  throw UsageError(
      fmt::format("model.name must be one of linear, logistic, mlp, cnn, resnet18, gpt2, llama, "
                  "torchscript; got "
                  "\"{}\"",
                  options.name));
}

// Integer buffers, such as the number of batches that batch normalization counts, keep their type.
void convert(const NamedTensors& tensors, at::ScalarType type) {
  for (const auto* group : {&tensors.parameters, &tensors.buffers}) {
    for (at::Tensor tensor : *group | std::views::values) {
      if (tensor.is_floating_point()) tensor.set_data(tensor.detach().to(type));
    }
  }
}

std::string activation_of(const ModelOptions& options) {
  if (options.name == "resnet18") return "relu";
  return options.name == "mlp" || options.name == "cnn" ? options.activation : "linear";
}

InitialValues initial_values_of(const ModelOptions& options, const NamedTensors& model) {
  const bool is_default = options.init == "default";
  if (is_gpt(options) && is_default) return gpt_initial_values(options.gpt.layers, options.seed);
  if (options.name == "resnet18" && is_default) return resnet_initial_values(model, options.seed);
  if (options.name == "torchscript" && is_default) return [](const NamedTensor&) {};
  return initial_values(model, options.init, options.seed, activation_of(options));
}

}  // namespace

GptShape gpt_shape(const ModelOptions& options, Shape input, const Target& target) {
  if (target.kind != Target::Kind::kTokens || input.size() != 1) {
    throw UsageError(fmt::format(
        "model {} predicts tokens, and the data has none; use data.format = \"text\" or \"tokens\"",
        options.name));
  }
  GptShape shape = options.gpt;
  shape.context = input[0];
  shape.dropout = options.dropout;
  if (shape.kv_heads == 0) shape.kv_heads = shape.heads;
  if (shape.mlp_width == 0) {
    constexpr std::int64_t kMultiple = 32;
    shape.mlp_width = options.name == "gpt2"
                          ? 4 * shape.width
                          : (8 * shape.width / 3 + kMultiple - 1) / kMultiple * kMultiple;
  }
  if (shape.vocabulary == 0) shape.vocabulary = target.classes;
  if (shape.vocabulary < target.classes) {
    throw UsageError(fmt::format(
        "model.vocabulary must be at least the {} tokens of the data's tokenizer, got {}",
        target.classes, shape.vocabulary));
  }
  return shape;
}

std::unique_ptr<Model> make_model(const ModelOptions& options, Shape input_shape,
                                  const Target& target) {
  const at::ScalarType type = scalar_type_named(options.dtype);
  const std::int64_t outputs = make_loss(target, options.loss).outputs();
  const bool from_file = options.name == "torchscript";
  const bool defers = options.defers_weights && !from_file;
  auto model = std::make_unique<Model>(
      make_blocks(options, input_shape, target, outputs, [&](const Block& block) {
        convert(block.tensors(), type);
        if (defers) free_weights(block.tensors());
      }));
  const NamedTensors tensors = model->tensors();
  const InitialValues values = initial_values_of(options, tensors);
  for (const NamedTensor& parameter : tensors.parameters) {
    if (!defers || !is_weight(parameter.second)) values(parameter);
  }
  if (defers) model->defer_weights(values);
  if (from_file) check_outputs(*model, options, input_shape, outputs);
  return model;
}

std::unique_ptr<Model> make_model(const ModelOptions& options, Shape input_shape,
                                  const Target& target, const Mesh& /*mesh*/) {
  return make_model(options, input_shape, target);
}

}  // namespace trireme
