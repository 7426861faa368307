#include "trireme/parallel/gradients/bucket_layout.h"

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
  for (std::size_t p = parameters.size(); p-- > 0;) {
    const auto [count, dtype] = parameters[p];
    const auto size = static_cast<std::int64_t>(size_of(dtype));
    const bool fits = !buckets_.empty() && buckets_.back().dtype == dtype &&
                      (buckets_.back().count + count) * size <= bucket_bytes;
    if (!fits) buckets_.push_back({.dtype = dtype});
    Bucket& bucket = buckets_.back();
    slots_[p] = {.bucket = buckets_.size() - 1, .offset = bucket.count, .count = count};
    bucket.count += aligned(count);
    bucket.parameters.push_back(p);
  }
  for (Bucket& bucket : buckets_) {
    bucket.bytes_before = bytes_;
    for (std::size_t rank = 0; rank < bytes_.size(); ++rank) {
      bytes_[rank] +=
          static_cast<std::size_t>(programs_[rank].rows * bucket.count) * size_of(bucket.dtype);
    }
  }
}

Buffer BucketLayout::row(void* block, int rank, std::size_t parameter, int row) const {
  const Slot& slot = slots_[parameter];
  const Bucket& bucket = buckets_[slot.bucket];
  if (block == nullptr) return {nullptr, slot.count, bucket.dtype};
  const Buffer all{static_cast<char*>(block) + bucket.bytes_before[static_cast<std::size_t>(rank)],
                   program(rank).rows * bucket.count, bucket.dtype};
  return all.slice(row * bucket.count + slot.offset, slot.count);
}

Buffer BucketLayout::partial_sums(void* block, int rank, std::size_t index) const {
  const Bucket& bucket = buckets_[index];
  return {static_cast<char*>(block) + bucket.bytes_before[static_cast<std::size_t>(rank)],
          program(rank).nodes * bucket.count, bucket.dtype};
}

}  // namespace trireme
