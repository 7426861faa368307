#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/kernels/reduction_tree.h"
#include "trireme/kernels/row_program.h"

namespace trireme {

/// Where the gradients of a step lie in one block of memory per rank. Parameters are laid into
/// buckets from the last one to the first, the order in which backward finishes them; a bucket is
/// what one all-reduce takes. Each bucket has as many rows as the rank needs to sum its virtual
/// workers in tree order (RowProgram); in the end the first ones hold the rank's partial sums.
class BucketLayout {
 public:
  struct Parameter {
    std::int64_t count = 0;
    DType dtype = DType::kF32;
    int unit = 0;   ///< parameters of different units share no bucket
    int owner = 0;  ///< parameters of a bucket lie in ascending order of their owners
  };
  struct Slot {
    std::size_t bucket = 0;
    std::int64_t offset = 0;  ///< in a row of the bucket, elements
    std::int64_t count = 0;
  };
  struct Bucket {
    DType dtype = DType::kF32;
    std::int64_t count = 0;                 ///< elements of one row, padding included
    std::vector<std::size_t> bytes_before;  ///< offset of the bucket in each rank's block
    std::vector<std::size_t> parameters;
  };

  BucketLayout(std::span<const Parameter> parameters, const ReductionTree& tree,
               std::int64_t bucket_bytes);

  std::span<const Slot> slots() const { return slots_; }
  std::span<const Bucket> buckets() const { return buckets_; }
  const RowProgram& program(int rank) const { return programs_[static_cast<std::size_t>(rank)]; }
  std::size_t bytes_of(int rank) const { return bytes_[static_cast<std::size_t>(rank)]; }

  /// Bytes of the rows of a bucket on `rank`.
  std::size_t bytes_of(int rank, std::size_t bucket) const;
  /// Where a bucket lies in `block`, the memory of `rank` for all buckets; null if that is null.
  void* place(void* block, int rank, std::size_t bucket) const;

  /// Row `row` of a parameter, whose bucket lies at `memory`. Null memory gives null rows.
  Buffer row(void* memory, int rank, std::size_t parameter, int row) const;
  /// The partial sums of a bucket, which lies at `memory`: [nodes of the rank, count of the
  /// bucket].
  Buffer partial_sums(void* memory, int rank, std::size_t bucket) const;

 private:
  std::vector<RowProgram> programs_;  // of each rank
  std::vector<Slot> slots_;
  std::vector<Bucket> buckets_;
  std::vector<std::size_t> bytes_;
};

}  // namespace trireme
