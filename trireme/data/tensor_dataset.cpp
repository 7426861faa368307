#include "trireme/data/tensor_dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "trireme/base/error.h"
#include "trireme/data/rows.h"
#include "trireme/data/standardize.h"

namespace trireme {

namespace {

Target checked_target(const at::Tensor& inputs, const at::Tensor& targets, std::int64_t classes) {
  if (!inputs.is_cpu() || !targets.is_cpu()) {
    throw UsageError("dataset: inputs and targets must lie on the CPU");
  }
  if (inputs.dim() < 1 || targets.dim() < 1 || inputs.size(0) != targets.size(0)) {
    throw UsageError(fmt::format(
        "dataset: inputs and targets must have as many rows, have {} and {}",
        inputs.dim() < 1 ? 0 : inputs.size(0), targets.dim() < 1 ? 0 : targets.size(0)));
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
    : TensorDataset(inputs, targets, classes, {0, inputs.dim() < 1 ? 0 : inputs.size(0)},
                    inputs.dim() < 1 ? 0 : inputs.size(0)) {}

TensorDataset::TensorDataset(const at::Tensor& inputs, const at::Tensor& targets,
                             std::int64_t classes, Range local, std::int64_t size)
    : inputs_(inputs.detach().contiguous()),
      targets_(targets.detach().contiguous()),
      target_(checked_target(inputs, targets, classes)),
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
