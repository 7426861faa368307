#include "trireme/parallel/sharded/units.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <map>
#include <set>

#include "trireme/parallel/gradients/lay_out.h"

namespace trireme {

namespace {

// For each parameter that requires a gradient, a number for the set of blocks that use it: such
// parameters are gathered together.
std::vector<int> units_of(const Model& model, const NamedTensors& tensors) {
  std::map<const c10::TensorImpl*, std::set<int>> blocks_of;
  int index = 0;
  for (const auto& block : model.blocks()) {
    for (const auto& [name, tensor] : block->tensors().parameters) {
      blocks_of[tensor.unsafeGetTensorImpl()].insert(index);
    }
    ++index;
  }
  std::map<std::set<int>, int> unit_of;
  std::vector<int> units;
  for (const auto& [name, tensor] : tensors.parameters) {
    if (!tensor.requires_grad()) continue;
    const std::set<int>& blocks = blocks_of.at(tensor.unsafeGetTensorImpl());
    units.push_back(unit_of.try_emplace(blocks, static_cast<int>(unit_of.size())).first->second);
  }
  return units;
}

}  // namespace

GradientParts parts_of(const Model& model, const ShardingOptions& sharding, int parts, int part,
                       bool gathers) {
  GradientParts spread{
      .parts = parts, .part = part, .in_place = sharding.stage == 1, .may_wait = !gathers};
  const NamedTensors tensors = model.tensors();
  if (gathers) spread.units = units_of(model, tensors);
  if (!sharding.whole_parameters) return spread;
  std::vector<std::int64_t> counts;
  for (const auto& [name, tensor] : tensors.parameters) {
    if (tensor.requires_grad()) counts.push_back(tensor.numel());
  }
  spread.owners = balanced_owners(counts, parts);
  return spread;
}

std::vector<std::vector<std::size_t>> buckets_of_blocks(const Model& model,
                                                        const BucketLayout& layout) {
  std::map<const c10::TensorImpl*, std::size_t> bucket_of;
  std::size_t p = 0;
  for (const auto& [name, tensor] : model.tensors().parameters) {
    if (tensor.requires_grad()) {
      bucket_of[tensor.unsafeGetTensorImpl()] = layout.slots()[p++].bucket;
    }
  }
  std::vector<std::vector<std::size_t>> buckets;
  for (const auto& block : model.blocks()) {
    std::set<std::size_t> used;
    for (const auto& [name, tensor] : block->tensors().parameters) {
      const auto found = bucket_of.find(tensor.unsafeGetTensorImpl());
      if (found != bucket_of.end()) used.insert(found->second);
    }
    buckets.emplace_back(used.begin(), used.end());
  }
  return buckets;
}

ShardedTemporaries sharded_temporaries(const Model& model, const ShardingOptions& sharding,
                                       const ReductionTree& tree, std::int64_t bucket_bytes,
                                       int rank, bool gathers) {
  const GradientParts parts = parts_of(model, sharding, tree.ranks(), rank, gathers);
  const BucketLayout layout = lay_out(model.tensors(), tree, bucket_bytes, &parts);
  ShardedTemporaries temporaries;
  const auto mode = memory_mode_of(layout, tree, &parts);
  if (mode == BucketMemory::Mode::kReused) {
    temporaries.buckets = static_cast<std::int64_t>(BucketMemory::bytes_of(layout, rank, mode));
  }
  if (!gathers) return temporaries;
  const auto buckets = buckets_of_blocks(model, layout);
  for (std::size_t block = 0; block < buckets.size(); ++block) {
    std::set<std::size_t> held(buckets[block].begin(), buckets[block].end());
    if (block + 1 < buckets.size())
      held.insert(buckets[block + 1].begin(), buckets[block + 1].end());
    std::int64_t bytes = 0;
    for (const std::size_t b : held) {
      const BucketLayout::Bucket& bucket = layout.buckets()[b];
      bytes += bucket.count * static_cast<std::int64_t>(size_of(bucket.dtype));
    }
    temporaries.gathered = std::max(temporaries.gathered, bytes);
  }
  return temporaries;
}

}  // namespace trireme
