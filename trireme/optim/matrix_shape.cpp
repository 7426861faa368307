#include "trireme/optim/matrix_shape.h"

#include <fmt/format.h>

#include <string_view>

#include "trireme/base/error.h"
#include "trireme/base/region.h"

namespace trireme {

namespace {

std::string_view layer_of(std::string_view name) {
  const std::string_view path = name.substr(0, name.rfind('.'));
  return path.substr(path.rfind('.') + 1);
}

}  // namespace

MatrixShape matrix_shape_of(const ParameterInfo& parameter) {
  if (parameter.shape.size() < 2) {
    throw UsageError(fmt::format(
        "muon: parameter {} must be a matrix, got {} dimensions; a group of rule = \"adamw\" "
        "can update it",
        parameter.name, parameter.shape.size()));
  }
  const std::int64_t rows = parameter.shape[0];
  MatrixShape matrix{.rows = rows, .columns = rows == 0 ? 0 : elements_of(parameter.shape) / rows};
  const std::string_view layer = layer_of(parameter.name);
  const bool widens = layer == "c_attn" || layer == "c_fc";
  matrix.is_transposed = (widens && matrix.rows < matrix.columns) ||
                         (layer == "c_proj" && matrix.rows > matrix.columns);
  return matrix;
}

}  // namespace trireme
