#pragma once

#include <cstdint>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/data/dataset.h"

namespace trireme {

struct LinearModelOptions {
  std::int64_t samples = 0;
  std::int64_t features = 0;
  std::uint64_t seed = 0;
  double noise = 0;           ///< standard deviation of what is added to y
  DType dtype = DType::kF32;  ///< kF32 or kF64
};

/// Samples of a linear model with known weights: x is standard normal, y = weights . x + bias +
/// noise * normal. Each sample is computed in batch() from (seed, index) alone, at about 40 ns a
/// feature; in_memory() computes them once.
class LinearModelDataset final : public Dataset {
 public:
  /// Throws UsageError unless there are samples and features and the type is kF32 or kF64.
  explicit LinearModelDataset(const LinearModelOptions& options);

  std::int64_t size() const override { return options_.samples; }
  std::vector<std::int64_t> input_shape() const override { return {options_.features}; }
  Target target() const override { return {}; }
  Batch batch(std::span<const std::int64_t> indices) const override;

  const std::vector<double>& weights() const { return weights_; }
  double bias() const { return bias_; }

 private:
  template <class T>
  void fill(std::span<const std::int64_t> indices, Batch& batch) const;

  LinearModelOptions options_;
  std::vector<double> weights_;
  double bias_;
};

}  // namespace trireme
