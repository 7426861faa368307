#include "trireme/data/tensor_dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "trireme/base/error.h"
#include "trireme/data/rows.h"
#include "trireme/data/standardize.h"

namespace trireme {

namespace {

// Before anything is asked of it: libtorch's own errors do not say which tensor is meant.
at::Tensor dense(const at::Tensor& tensor, const char* name) {
  const char* const got = !tensor.defined()                 ? "an undefined one"
                          : tensor.layout() != at::kStrided ? "a sparse one"
                          : !tensor.device().is_cpu()       ? "one on a device"
                          : tensor.is_quantized()           ? "a quantized one"
                                                            : nullptr;
  if (got == nullptr) return tensor.detach().contiguous();
  throw UsageError(fmt::format("dataset: {} must be a dense tensor on the CPU, got {}", name, got));
}

std::int64_t rows_of(const at::Tensor& tensor) {
  return tensor.defined() && tensor.dim() > 0 ? tensor.size(0) : 0;
}

Target checked_target(const at::Tensor& inputs, const at::Tensor& targets, std::int64_t classes) {
  if (inputs.dim() < 1 || targets.dim() < 1 || inputs.size(0) != targets.size(0)) {
    throw UsageError(
        fmt::format("dataset: inputs and targets must have as many rows, have {} and {}",
                    rows_of(inputs), rows_of(targets)));
  }
  if (classes == 0) {
    if (targets.dim() > 2 || !targets.is_floating_point()) {
      throw UsageError(fmt::format(
          "dataset: targets must be (N) or (N, width) of a floating type, are {} in {} dimensions",
          at::toString(targets.scalar_type()), targets.dim()));
    }
    return Target::numbers(targets.dim() == 2 ? targets.size(1) : 1);
  }
  if (targets.dim() != 1 || targets.scalar_type() != at::kLong) {
    throw UsageError(
        fmt::format("dataset: class labels must be (N) of i64, are {} in {} dimensions",
                    at::toString(targets.scalar_type()), targets.dim()));
  }
  const at::Tensor labels = targets.contiguous();
  for (const std::int64_t label : std::span(labels.data_ptr<std::int64_t>(), labels.numel())) {
    if (label < 0 || label >= classes) {
      throw UsageError(
          fmt::format("dataset: class labels must lie in [0, {}), got {}", classes, label));
    }
  }
  return Target::one_of(classes);
}

}  // namespace

TensorDataset::TensorDataset(const at::Tensor& inputs, const at::Tensor& targets,
                             std::int64_t classes)
    : TensorDataset(inputs, targets, classes, {0, rows_of(inputs)}, rows_of(inputs)) {}

TensorDataset::TensorDataset(const at::Tensor& inputs, const at::Tensor& targets,
                             std::int64_t classes, Range local, std::int64_t size)
    : inputs_(dense(inputs, "inputs")),
      targets_(dense(targets, "targets")),
      target_(checked_target(inputs_, targets_, classes)),
      local_(local),
      size_(size) {
  if (local.size() != inputs_.size(0)) {
    throw UsageError(fmt::format("dataset: the samples [{}, {}) must be {} rows, got {}",
                                 local.begin, local.end, local.size(), inputs_.size(0)));
  }
  if (classes == 0 && targets_.dim() == 1) targets_ = targets_.unsqueeze(1);
}

std::vector<std::int64_t> TensorDataset::input_shape() const {
  return {inputs_.sizes().begin() + 1, inputs_.sizes().end()};
}

Batch TensorDataset::batch(std::span<const std::int64_t> indices) const {
  check_indices(indices, local_);
  return {gather_rows(inputs_, indices, local_.begin),
          gather_rows(targets_, indices, local_.begin)};
}

void TensorDataset::standardize(const Standardization& by) {
  Batch own{inputs_.clone(), targets_.clone()};
  by.apply(own);
  inputs_ = own.input;
  targets_ = own.target;
}

TensorDataset in_memory(const Dataset& dataset) {
  const Range local = dataset.local_range();
  std::vector<std::int64_t> indices(static_cast<std::size_t>(local.size()));
  std::iota(indices.begin(), indices.end(), local.begin);
  const Batch all = dataset.batch(indices);
  return {all.input, all.target, dataset.target().classes, local, dataset.size()};
}

}  // namespace trireme
