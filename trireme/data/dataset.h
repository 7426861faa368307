#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "trireme/base/partition.h"

namespace trireme {

/// Samples side by side.
struct Batch {
  Batch() = default;
  /// Weighs as many as the batch has samples.
  Batch(at::Tensor input, at::Tensor target) : input(std::move(input)), target(std::move(target)) {
    weight = this->input.dim() > 0 ? static_cast<double>(this->input.size(0)) : 0;
  }
  Batch(at::Tensor input, at::Tensor target, double weight)
      : input(std::move(input)), target(std::move(target)), weight(weight) {}

  at::Tensor input;   ///< (B, ...input_shape)
  at::Tensor target;  ///< see Target::Kind
  /// Of tokens: the place of each one in its document, (B, length) of i64, 0 at the first token of
  /// a document in the sample; undefined: each sample is one document.
  at::Tensor positions;
  double weight = 0;  ///< how much the batch counts: its samples, or the tokens to be predicted
};

/// What is to be predicted for each sample.
struct Target {
  enum class Kind : std::uint8_t {
    kNumbers,  ///< `width` numbers: a batch's target is (B, width) of a floating type
    kClass,    ///< one of `classes` classes: (B) of i64, counted from 0
    kTokens    ///< `length` tokens, each one of `classes`: (B, length) of i64; kIgnored: padding
  };
  static constexpr std::int64_t kIgnored = -100;

  Kind kind = Kind::kNumbers;
  std::int64_t classes = 0;
  std::int64_t width = 1;
  std::int64_t length = 1;

  static Target numbers(std::int64_t width) { return {.kind = Kind::kNumbers, .width = width}; }
  static Target one_of(std::int64_t classes) { return {.kind = Kind::kClass, .classes = classes}; }
  static Target tokens(std::int64_t classes, std::int64_t length) {
    return {.kind = Kind::kTokens, .classes = classes, .length = length};
  }

  bool is_numbers() const { return kind == Kind::kNumbers; }
  bool operator==(const Target&) const = default;
};

/// Samples by index, in [0, size()). A dataset may hold only a part of them, the part that this
/// rank's virtual workers use (Sampler::rows_of). Indices are always those of the whole dataset.
///
/// Any number of threads may ask for batches.
class Dataset {
 public:
  virtual ~Dataset() = default;

  /// Returns the number of samples of the whole dataset, whatever this rank holds.
  virtual std::int64_t size() const = 0;

  /// Returns the shape of one sample's input.
  virtual std::vector<std::int64_t> input_shape() const = 0;

  virtual Target target() const = 0;

  /// Returns the samples in the order of `indices`. Throws UsageError for an index outside
  /// local_range().
  virtual Batch batch(std::span<const std::int64_t> indices) const = 0;

  /// Returns the samples that this rank holds.
  virtual Range local_range() const { return {0, size()}; }

  /// Returns the weight that a batch of these samples has, which is known on every rank, also for
  /// samples that another rank holds. By default each sample weighs the length of its target.
  virtual double weight(std::span<const std::int64_t> indices) const {
    return static_cast<double>(indices.size()) * static_cast<double>(target().length);
  }

  /// Returns true if all samples have the same weight, so that the weight of a step follows from
  /// its number of samples.
  virtual bool has_equal_weights() const { return true; }
};

}  // namespace trireme
