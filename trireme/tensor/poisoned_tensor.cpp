#include "trireme/tensor/poisoned_tensor.h"

#include <ATen/ATen.h>

#include <utility>

namespace trireme {

at::Tensor poisoned_tensor(const at::Tensor& like, std::shared_ptr<PoisonedMemory> poison) {
  void* const data = poison->data();
  return at::from_blob(
      data, like.sizes(), [poison = std::move(poison)](void*) {},
      like.options().requires_grad(false));
}

}  // namespace trireme
