#include "trireme/parallel/synchronize.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <array>

#include "trireme/base/error.h"
#include "trireme/base/hash.h"

namespace trireme {

namespace {

// A hash of everything that must be equal on all ranks.
std::uint64_t fingerprint(const NamedTensors& model) {
  std::uint64_t hash = fnv1a("");
  for (const auto* tensors : {&model.parameters, &model.buffers}) {
    for (const auto& [name, tensor] : *tensors) {
      hash = fnv1a(fmt::format("{} {} [{}] {};", name, at::toString(tensor.scalar_type()),
                               fmt::join(tensor.sizes(), ","), tensor.requires_grad()),
                   hash);
    }
  }
  return hash;
}

void require_same_model(Communicator& world, const NamedTensors& model) {
  const auto mine = static_cast<std::int64_t>(fingerprint(model));
  std::array<std::int64_t, 2> extremes{mine, mine};
  world.all_reduce(buffer_of(std::span(&extremes[0], 1)), ReduceOp::kMin).wait();
  world.all_reduce(buffer_of(std::span(&extremes[1], 1)), ReduceOp::kMax).wait();
  if (extremes[0] == extremes[1]) return;
  throw UsageError(fmt::format(
      "attach: the ranks' models differ in the names, shapes, types or requires_grad of their "
      "tensors; this is rank {} of {} with {} parameters and {} buffers. Build the same model on "
      "every rank",
      world.rank(), world.size(), model.parameters.size(), model.buffers.size()));
}

}  // namespace

void make_contiguous(const NamedTensors& model) {
  for (const auto& [name, tensor] : model.parameters) {
    if (!tensor.is_contiguous()) tensor.set_data(tensor.detach().contiguous());
  }
}

void broadcast_from_first_rank(Communicator& world, const NamedTensors& model) {
  require_same_model(world, model);
  const at::NoGradGuard no_grad;
  for (const auto* tensors : {&model.parameters, &model.buffers}) {
    for (const auto& [name, tensor] : *tensors) {
      at::Tensor bytes = tensor.detach().contiguous();
      Buffer buffer{bytes.data_ptr(), static_cast<std::int64_t>(bytes.nbytes()), DType::kU8};
      world.broadcast(buffer, 0).wait();
      if (!bytes.is_same(tensor)) tensor.detach().copy_(bytes);
    }
  }
}

}  // namespace trireme
