#include "trireme/model/gpt/gpt.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <string_view>

#include "trireme/base/error.h"
#include "trireme/model/gpt/parameters.h"
#include "trireme/model/init.h"

namespace trireme {

namespace {

// Outputs of a layer that are added to what the layer was given.
bool is_residual(std::string_view name) {
  return name.ends_with(".c_proj.weight") || name.ends_with(".o_proj.weight") ||
         name.ends_with(".down_proj.weight");
}

void require_positive(std::string_view name, std::int64_t value) {
  if (value > 0) return;
  throw UsageError(fmt::format("model.{} must be positive, got {}", name, value));
}

}  // namespace

void require_valid(const GptShape& shape) {
  require_positive("layers", shape.layers);
  require_positive("width", shape.width);
  require_positive("heads", shape.heads);
  require_positive("kv_heads", shape.kv_heads);
  require_positive("context", shape.context);
  require_positive("mlp_width", shape.mlp_width);
  if (shape.vocabulary < 2) {
    throw UsageError(
        fmt::format("model: the vocabulary must have at least 2 tokens, got {}", shape.vocabulary));
  }
  if (shape.width % shape.heads != 0) {
    throw UsageError(fmt::format("model.width must be a multiple of the {} model.heads, got {}",
                                 shape.heads, shape.width));
  }
  if (shape.heads % shape.kv_heads != 0) {
    throw UsageError(fmt::format("model.kv_heads must divide the {} model.heads, got {}",
                                 shape.heads, shape.kv_heads));
  }
  if (!(shape.dropout >= 0 && shape.dropout < 1)) {
    throw UsageError(
        fmt::format("model.dropout must be at least 0 and below 1, got {}", shape.dropout));
  }
}

InitialValues gpt_initial_values(std::int64_t layers, std::uint64_t seed) {
  constexpr double kDeviation = 0.02;
  const double residual = kDeviation / std::sqrt(2 * static_cast<double>(layers));
  return [residual, seed](const NamedTensor& parameter) {
    const auto& [name, tensor] = parameter;
    const at::NoGradGuard no_grad;
    if (tensor.dim() == 1) {
      tensor.fill_(name.ends_with("bias") ? 0 : 1);
    } else {
      set_normal(tensor, name, is_residual(name) ? residual : kDeviation, seed);
    }
  };
}

double training_flops_of_token(const GptShape& shape, bool is_llama) {
  const auto width = static_cast<double>(shape.width);
  const auto packed = static_cast<double>((shape.heads + 2 * shape.kv_heads) * shape.head_width());
  const auto hidden = static_cast<double>(shape.mlp_width);
  const double weights_of_layer =
      width * packed + width * width + (is_llama ? 3 : 2) * width * hidden;
  const double weights = static_cast<double>(shape.layers) * weights_of_layer +
                         width * static_cast<double>(shape.vocabulary);
  const double attention =
      12 * static_cast<double>(shape.layers) * width * static_cast<double>(shape.context);
  return 6 * weights + attention;
}

}  // namespace trireme
