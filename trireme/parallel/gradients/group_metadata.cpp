#include "trireme/parallel/gradients/group_metadata.h"

#include <ATen/ATen.h>

#include "trireme/kernels/reduce.h"

namespace trireme {

namespace {

constexpr std::size_t kBuffers = 2;  // after stop and loss

}  // namespace

GroupMetadata::GroupMetadata(std::vector<NamedTensor> buffers) : buffers_(std::move(buffers)) {
  std::size_t count = kBuffers;
  for (const auto& [name, tensor] : buffers_) count += static_cast<std::size_t>(tensor.numel());
  values_.resize(count);
}

Work GroupMetadata::start(Communicator& groups, bool request_stop, double loss, double weight) {
  values_[0] = request_stop ? 1 : 0;
  values_[1] = loss;
  double* at = values_.data() + kBuffers;
  for (const auto& [name, tensor] : buffers_) {
    tensor_over({at, tensor.numel(), DType::kF64}, tensor.sizes()).copy_(tensor);
    at += tensor.numel();
  }
  if (weight != 1) {
    for (double& value : values_) value *= weight;
  }
  return groups.all_reduce(values(), ReduceOp::kMean);
}

void GroupMetadata::apply(double alpha) const {
  const at::NoGradGuard no_grad;
  double* at = const_cast<double*>(values_.data()) + kBuffers;
  for (const auto& [name, tensor] : buffers_) {
    at::Tensor now = tensor_over({at, tensor.numel(), DType::kF64}, tensor.sizes()).clone();
    at += tensor.numel();
    if (alpha > 0) now.mul_(1 - alpha).add_(tensor, alpha);
    if (!tensor.is_floating_point()) now.round_();
    tensor.copy_(now);
  }
}

}  // namespace trireme
