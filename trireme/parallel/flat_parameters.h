#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/base/partition.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// The parameters of a model that require a gradient as one flat array, which can be cut into
/// fragments of equal size regardless of where a parameter ends.
class FlatParameters {
 public:
  struct Parameter {
    std::string name;
    at::Tensor tensor;
    Range range;  ///< its elements in the flat array
  };

  FlatParameters() = default;
  /// `model` is kept by reference count; its parameters must be contiguous.
  explicit FlatParameters(const NamedTensors& model);

  std::int64_t size() const { return parameters_.empty() ? 0 : parameters_.back().range.end; }
  /// A type that can hold the values of every parameter: f64 if one of them is f64, else f32.
  DType dtype() const { return dtype_; }
  const std::vector<Parameter>& parameters() const { return parameters_; }

  /// Returns the parts of the parameters that lie in `range`, in order, as views: writing to them
  /// changes the parameters.
  std::vector<at::Tensor> parts(Range range) const;
  /// The same with names and ranges; a parameter that lies in `range` as a whole keeps its shape.
  std::vector<Parameter> slices(Range range) const;

  /// Copies the elements of `range` to and from `flat`, [range.size()].
  void read(Range range, const at::Tensor& flat) const;
  void write(Range range, const at::Tensor& flat) const;

 private:
  std::vector<Parameter> parameters_;
  DType dtype_ = DType::kF32;
};

}  // namespace trireme
