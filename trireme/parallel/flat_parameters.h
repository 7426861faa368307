#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/base/partition.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// The parameters of a model that learn, as if they lay end to end: what cuts them into pieces of
/// equal size without regard to where one ends and the next begins.
class FlatParameters {
 public:
  struct Parameter {
    std::string name;
    at::Tensor tensor;
    Range range;  ///< of the elements, among all of them
  };

  FlatParameters() = default;
  /// `model` is kept by reference count; its parameters must be contiguous.
  explicit FlatParameters(const NamedTensors& model);

  std::int64_t size() const { return parameters_.empty() ? 0 : parameters_.back().range.end; }
  /// One type that holds the values of every parameter: f64 if one of them is, else f32.
  DType dtype() const { return dtype_; }
  const std::vector<Parameter>& parameters() const { return parameters_; }

  /// The parts of the parameters that lie in `range`, in order. They are views: writing to them
  /// changes the parameters.
  std::vector<at::Tensor> parts(Range range) const;
  /// The same with their names and places; a parameter that lies in it as a whole has its shape.
  std::vector<Parameter> slices(Range range) const;

  /// To and from `flat`, [range.size()].
  void read(Range range, const at::Tensor& flat) const;
  void write(Range range, const at::Tensor& flat) const;

 private:
  std::vector<Parameter> parameters_;
  DType dtype_ = DType::kF32;
};

}  // namespace trireme
