#pragma once

#include "trireme/data/dataset.h"

namespace trireme {

struct Standardization;

/// Samples in memory: row i of `inputs` and of `targets` is sample i.
///
///     const TensorDataset train(x, y);              // y: (N) or (N, width) of a floating type
///     const TensorDataset images(x, labels, 10);    // labels: (N) of i64 in [0, 10)
///
/// The tensors are shared, not copied, if they are contiguous. A batch copies each row once.
class TensorDataset : public Dataset {
 public:
  /// Throws UsageError if the tensors have different numbers of rows, are not on the CPU, or have a
  /// label outside [0, classes).
  TensorDataset(const at::Tensor& inputs, const at::Tensor& targets, std::int64_t classes = 0);

  /// The rows are the samples `local` of `size` samples: row 0 is sample local.begin.
  TensorDataset(const at::Tensor& inputs, const at::Tensor& targets, std::int64_t classes,
                Range local, std::int64_t size);

  std::int64_t size() const override { return size_; }
  std::vector<std::int64_t> input_shape() const override;
  Target target() const override { return target_; }
  Batch batch(std::span<const std::int64_t> indices) const override;
  Range local_range() const override { return local_; }

  const at::Tensor& inputs() const { return inputs_; }
  const at::Tensor& targets() const { return targets_; }

  /// Copies the tensors and applies `by` to all samples.
  void standardize(const Standardization& by);

 private:
  at::Tensor inputs_;
  at::Tensor targets_;
  Target target_;
  Range local_;
  std::int64_t size_;
};

/// Returns all samples that this rank has of `dataset`, computed or converted once: for samples
/// that are expensive to compute and fit in memory.
TensorDataset in_memory(const Dataset& dataset);

}  // namespace trireme
