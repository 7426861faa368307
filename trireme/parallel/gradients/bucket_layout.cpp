#include "trireme/parallel/gradients/bucket_layout.h"

#include <algorithm>

namespace trireme {

namespace {

constexpr std::int64_t kAlignment = 16;  // elements: 64 bytes of f32

std::int64_t aligned(std::int64_t count) {
  return (count + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

BucketLayout::BucketLayout(std::span<const Parameter> parameters, const ReductionTree& tree,
                           std::int64_t bucket_bytes)
    : slots_(parameters.size()), bytes_(static_cast<std::size_t>(tree.ranks()), 0) {
  for (int rank = 0; rank < tree.ranks(); ++rank) programs_.emplace_back(tree, rank);
  int unit = 0;
  for (std::size_t p = parameters.size(); p-- > 0;) {
    const Parameter& parameter = parameters[p];
    const auto size = static_cast<std::int64_t>(size_of(parameter.dtype));
    const bool fits = !buckets_.empty() && buckets_.back().dtype == parameter.dtype &&
                      unit == parameter.unit &&
                      (buckets_.back().count + parameter.count) * size <= bucket_bytes;
    if (!fits) buckets_.push_back({.dtype = parameter.dtype});
    unit = parameter.unit;
    buckets_.back().count += aligned(parameter.count);
    buckets_.back().parameters.push_back(p);
  }
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    Bucket& bucket = buckets_[b];
    std::ranges::stable_sort(bucket.parameters, {},
                             [&](std::size_t p) { return parameters[p].owner; });
    std::int64_t offset = 0;
    for (const std::size_t p : bucket.parameters) {
      slots_[p] = {.bucket = b, .offset = offset, .count = parameters[p].count};
      offset += aligned(parameters[p].count);
    }
    bucket.bytes_before = bytes_;
    for (int rank = 0; rank < tree.ranks(); ++rank) {
      bytes_[static_cast<std::size_t>(rank)] += bytes_of(rank, b);
    }
  }
}

std::size_t BucketLayout::bytes_of(int rank, std::size_t bucket) const {
  const Bucket& one = buckets_[bucket];
  return static_cast<std::size_t>(program(rank).rows * one.count) * size_of(one.dtype);
}

void* BucketLayout::place(void* block, int rank, std::size_t bucket) const {
  if (block == nullptr) return nullptr;
  return static_cast<char*>(block) + buckets_[bucket].bytes_before[static_cast<std::size_t>(rank)];
}

Buffer BucketLayout::row(void* memory, int rank, std::size_t parameter, int row) const {
  const Slot& slot = slots_[parameter];
  const Bucket& bucket = buckets_[slot.bucket];
  if (memory == nullptr) return {nullptr, slot.count, bucket.dtype};
  const Buffer all{memory, program(rank).rows * bucket.count, bucket.dtype};
  return all.slice(row * bucket.count + slot.offset, slot.count);
}

Buffer BucketLayout::partial_sums(void* memory, int rank, std::size_t index) const {
  const Bucket& bucket = buckets_[index];
  return {memory, program(rank).nodes * bucket.count, bucket.dtype};
}

}  // namespace trireme
