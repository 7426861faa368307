#pragma once

#include <cstddef>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/parallel/gradients/bucket_layout.h"

namespace trireme {

/// One row of every bucket in one block of memory, and parameters in the places that their
/// gradients have in the buckets.
class FlatMemory {
 public:
  /// `layout` must outlive this object.
  explicit FlatMemory(const BucketLayout& layout);

  std::size_t bytes() const { return bytes_; }
  /// `base`: of so many bytes.
  Buffer bucket(void* base, std::size_t bucket) const;
  Buffer parameter(void* base, std::size_t parameter) const;

 private:
  const BucketLayout& layout_;
  std::size_t bytes_ = 0;
  std::vector<std::size_t> offsets_;  // of each bucket
};

}  // namespace trireme
