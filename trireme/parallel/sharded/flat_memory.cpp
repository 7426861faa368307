#include "trireme/parallel/sharded/flat_memory.h"

namespace trireme {

namespace {

constexpr std::size_t kFlatAlignment = 64;

}  // namespace

FlatMemory::FlatMemory(const BucketLayout& layout) : layout_(layout) {
  for (const BucketLayout::Bucket& bucket : layout.buckets()) {
    offsets_.push_back(bytes_);
    bytes_ += static_cast<std::size_t>(bucket.count) * size_of(bucket.dtype);
    bytes_ = (bytes_ + kFlatAlignment - 1) / kFlatAlignment * kFlatAlignment;
  }
}

Buffer FlatMemory::bucket(void* base, std::size_t bucket) const {
  const BucketLayout::Bucket& one = layout_.buckets()[bucket];
  return {static_cast<char*>(base) + offsets_[bucket], one.count, one.dtype};
}

Buffer FlatMemory::parameter(void* base, std::size_t parameter) const {
  const BucketLayout::Slot& slot = layout_.slots()[parameter];
  return bucket(base, slot.bucket).slice(slot.offset, slot.count);
}

}  // namespace trireme
