#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <span>
#include <vector>

#include "trireme/base/partition.h"

namespace trireme {

/// Samples side by side. `input`: (B, ...input_shape). `target`: class labels (B) of i64, or values
/// (B, width) of a floating type.
struct Batch {
  at::Tensor input;
  at::Tensor target;
};

/// What is to be predicted: one of `classes` classes or, with classes == 0, `width` numbers.
struct Target {
  std::int64_t classes = 0;
  std::int64_t width = 1;
  bool operator==(const Target&) const = default;
};

/// Samples by index, in [0, size()). A dataset may hold only a part of them, the part that this
/// rank's virtual workers ask for (Sampler::rows_of); indices are then still those of the whole.
///
/// Any number of threads may ask for batches.
class Dataset {
 public:
  virtual ~Dataset() = default;

  /// Samples of the whole dataset, whatever this rank holds.
  virtual std::int64_t size() const = 0;

  /// Of one sample.
  virtual std::vector<std::int64_t> input_shape() const = 0;

  virtual Target target() const = 0;

  /// The samples in the order of `indices`. Throws UsageError for one that is not held.
  virtual Batch batch(std::span<const std::int64_t> indices) const = 0;

  /// The samples that can be asked for here.
  virtual Range held() const { return {0, size()}; }
};

}  // namespace trireme
