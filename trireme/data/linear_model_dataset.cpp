#include "trireme/data/linear_model_dataset.h"

#include <fmt/format.h>

#include "trireme/base/error.h"
#include "trireme/base/random.h"
#include "trireme/data/rows.h"

namespace trireme {

namespace {

// Streams of random numbers: one for the model and one for each sample.
CounterRandom model_stream(std::uint64_t seed) {
  return CounterRandom(mix_seed(seed, 0));
}

CounterRandom sample_stream(std::uint64_t seed, std::int64_t index) {
  return CounterRandom(mix_seed(seed, 1), static_cast<std::uint64_t>(index));
}

}  // namespace

LinearModelDataset::LinearModelDataset(const LinearModelOptions& options) : options_(options) {
  if (options.samples < 1 || options.features < 1) {
    throw UsageError(fmt::format("linear model: must have samples and features, got {} and {}",
                                 options.samples, options.features));
  }
  if (options.dtype != DType::kF32 && options.dtype != DType::kF64) {
    throw UsageError(
        fmt::format("linear model: the type must be f32 or f64, got {}", name_of(options.dtype)));
  }
  const CounterRandom random = model_stream(options.seed);
  for (std::int64_t j = 0; j < options.features; ++j) {
    weights_.push_back(random.normal(static_cast<std::uint64_t>(j) + 1));
  }
  bias_ = random.normal(0);
}

Batch LinearModelDataset::batch(std::span<const std::int64_t> indices) const {
  check_indices(indices, {0, size()});
  const auto rows = static_cast<std::int64_t>(indices.size());
  const auto type = options_.dtype == DType::kF32 ? at::kFloat : at::kDouble;
  Batch batch{at::empty({rows, options_.features}, type), at::empty({rows, 1}, type)};
  if (options_.dtype == DType::kF32) {
    fill<float>(indices, batch);
  } else {
    fill<double>(indices, batch);
  }
  return batch;
}

// y is computed from the stored x: in f32, from the rounded value.
template <class T>
void LinearModelDataset::fill(std::span<const std::int64_t> indices, Batch& batch) const {
  T* x = batch.input.data_ptr<T>();
  T* y = batch.target.data_ptr<T>();
  for (const std::int64_t index : indices) {
    const CounterRandom random = sample_stream(options_.seed, index);
    double sum = bias_ + options_.noise * random.normal(0);
    for (std::size_t j = 0; j < weights_.size(); ++j) {
      *x = static_cast<T>(random.normal(j + 1));
      sum += weights_[j] * static_cast<double>(*x++);
    }
    *y++ = static_cast<T>(sum);
  }
}

}  // namespace trireme
