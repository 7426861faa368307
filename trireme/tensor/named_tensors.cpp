#include "trireme/tensor/named_tensors.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/nn/module.h>

#include <set>

#include "trireme/base/error.h"

namespace trireme {

NamedTensors tensors_of(const torch::nn::Module& module) {
  NamedTensors tensors;
  for (const auto& item : module.named_parameters()) {
    if (item.value().defined()) tensors.parameters.emplace_back(item.key(), item.value());
  }
  for (const auto& item : module.named_buffers()) {
    if (item.value().defined()) tensors.buffers.emplace_back(item.key(), item.value());
  }
  return tensors;
}

NamedTensors each_once(NamedTensors tensors) {
  std::set<const void*> known;
  const auto is_known = [&](const NamedTensor& named) {
    return !known.insert(named.second.unsafeGetTensorImpl()).second;
  };
  std::erase_if(tensors.parameters, is_known);
  std::erase_if(tensors.buffers, is_known);
  return tensors;
}

at::Tensor stored_view(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kBool:
    case at::kChar:
      return tensor.view(at::kByte);
    case at::kShort:
      return tensor.unsqueeze(-1).view(at::kByte);
    default:
      return tensor.is_complex() ? at::view_as_real(tensor) : tensor;
  }
}

at::Tensor numbers_of(const at::Tensor& tensor) {
  return (tensor.is_complex() ? at::view_as_real(tensor) : tensor).to(at::kDouble).contiguous();
}

DType dtype_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return DType::kF32;
    case at::kDouble:
      return DType::kF64;
    case at::kHalf:
      return DType::kF16;
    case at::kBFloat16:
      return DType::kBF16;
    case at::kInt:
      return DType::kI32;
    case at::kLong:
      return DType::kI64;
    case at::kByte:
      return DType::kU8;
    default:
      throw UsageError(fmt::format(
          "tensor type {} cannot be communicated; use f32, f64, f16, bf16, i32, i64 or u8",
          at::toString(type)));
  }
}

at::ScalarType scalar_type_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return at::kFloat;
    case DType::kF64:
      return at::kDouble;
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
    case DType::kI32:
      return at::kInt;
    case DType::kI64:
      return at::kLong;
    case DType::kU8:
      return at::kByte;
  }
  return at::kFloat;
}

Buffer buffer_of(const at::Tensor& tensor) {
  const bool is_host = tensor.device().is_cpu();
  if (!(is_host || tensor.device().is_cuda()) || !tensor.is_contiguous()) {
    throw UsageError(
        fmt::format("tensor must be contiguous in the memory of a CPU or a CUDA device, got {} "
                    "with strides [{}]",
                    tensor.device().str(), fmt::join(tensor.strides(), ", ")));
  }
  return {tensor.data_ptr(), tensor.numel(), dtype_of(tensor.scalar_type()),
          is_host ? Device::kCpu : Device(DeviceKind::kCuda, tensor.device().index())};
}

Buffer host_buffer_of(const at::Tensor& tensor) {
  if (!tensor.device().is_cpu()) {
    throw UsageError(fmt::format(
        "tensor must lie on the CPU, where trireme trains so far, got one on {}: move the model "
        "there by to(torch::kCPU)",
        tensor.device().str()));
  }
  return buffer_of(tensor);
}

at::Tensor tensor_over(Buffer buffer, at::IntArrayRef shape) {
  return at::from_blob(buffer.data, shape, at::TensorOptions().dtype(scalar_type_of(buffer.dtype)));
}

}  // namespace trireme
