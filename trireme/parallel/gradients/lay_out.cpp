#include "trireme/parallel/gradients/lay_out.h"

#include <ATen/core/Tensor.h>

#include <vector>

namespace trireme {

BucketLayout lay_out(const NamedTensors& model, const ReductionTree& tree,
                     std::int64_t bucket_bytes, const GradientParts* parts) {
  std::vector<BucketLayout::Parameter> sizes;
  for (const auto& [name, tensor] : model.parameters) {
    if (!tensor.requires_grad()) continue;
    const std::size_t p = sizes.size();
    sizes.push_back({.count = tensor.numel(), .dtype = dtype_of(tensor.scalar_type())});
    if (parts != nullptr && !parts->units.empty()) sizes.back().unit = parts->units[p];
    if (parts != nullptr && !parts->owners.empty()) sizes.back().owner = parts->owners[p];
  }
  return {sizes, tree, bucket_bytes};
}

BucketMemory::Mode memory_mode_of(const BucketLayout& layout, const ReductionTree& tree,
                                  const GradientParts* parts) {
  if (parts == nullptr || parts->in_place) return BucketMemory::Mode::kOwnPlaces;
  for (int rank = 0; rank < tree.ranks(); ++rank) {
    if (layout.program(rank).steps.size() > 1) return BucketMemory::Mode::kOwnPlaces;
  }
  return BucketMemory::Mode::kReused;
}

}  // namespace trireme
