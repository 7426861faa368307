#pragma once

#include <cstdint>

#include "trireme/optim/parameter_groups.h"

namespace trireme {

/// A parameter as the matrix of a linear map, the first dimension by all others: a convolution of
/// [out, in, 3, 3] is [out, in * 9].
struct MatrixShape {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  /// True for [in, out], which is what GPT-2's Conv1D stores; torch::nn::Linear stores [out, in].
  bool is_transposed = false;

  std::int64_t outputs() const { return is_transposed ? columns : rows; }
  std::int64_t inputs() const { return is_transposed ? rows : columns; }
};

/// Returns the matrix of a parameter. The layers c_attn, c_fc and c_proj of a GPT-2 are stored
/// [in, out] by Hugging Face and [out, in] by nanoGPT. Since c_attn and c_fc have more outputs than
/// inputs, and c_proj has not, the shape tells. Throws UsageError for less than two dimensions.
MatrixShape matrix_shape_of(const ParameterInfo& parameter);

}  // namespace trireme
