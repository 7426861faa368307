#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "trireme/base/buffer.h"

namespace torch::nn {
class Module;
}

namespace trireme {

using NamedTensor = std::pair<std::string, at::Tensor>;

/// What a model learns (parameters) and what it merely remembers (buffers, such as the running
/// statistics of batch normalization), under the names the model gives them, in its order.
struct NamedTensors {
  std::vector<NamedTensor> parameters;
  std::vector<NamedTensor> buffers;
};

/// The tensors of an ordinary module, "0.weight" and so on, submodules included; those that layers
/// share under each of their names. Undefined ones, which only reserve a name, are left out.
NamedTensors tensors_of(const torch::nn::Module& module);

/// Returns each tensor once, under its first name: layers may share a tensor.
NamedTensors each_once(NamedTensors tensors);

/// The memory of a contiguous tensor in a type that files hold: bool and i8 as u8, i16 as two u8,
/// complex numbers as their two parts in a last dimension. Other tensors as they are.
at::Tensor stored_view(const at::Tensor& tensor);

/// What of a tensor has a sum, as f64 and contiguous: real and imaginary parts of complex numbers
/// in a last dimension. A contiguous tensor of f64 itself, not a copy.
at::Tensor numbers_of(const at::Tensor& tensor);

/// Throws UsageError for types that trireme does not move (complex, quantised, ...).
DType dtype_of(at::ScalarType type);
at::ScalarType scalar_type_of(DType dtype);

/// The memory of a contiguous tensor, which must outlive the Buffer. Throws UsageError unless it
/// lies on the CPU or on a CUDA device.
Buffer buffer_of(const at::Tensor& tensor);

/// The same for a tensor on the CPU, which the host may read and write. Throws UsageError for other
/// tensors.
Buffer host_buffer_of(const at::Tensor& tensor);

/// Returns a tensor over memory that it does not own. `shape` has buffer.count elements.
at::Tensor tensor_over(Buffer buffer, at::IntArrayRef shape);

}  // namespace trireme
