#include "trireme/parallel/gradients/step_metadata.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "trireme/base/error.h"
#include "trireme/kernels/reduce.h"

namespace trireme {

namespace {

at::Tensor row_of(double* values, const at::Tensor& buffer) {
  return tensor_over({values, buffer.numel(), DType::kF64}, buffer.sizes());
}

}  // namespace

StepMetadata::StepMetadata(Communicator& ranks, const ReductionTree& tree,
                           const RowProgram& program, std::size_t parameters,
                           const std::vector<NamedTensor>& buffers)
    : ranks_(ranks), tree_(tree), program_(program), folded_(kChanges), used_(parameters) {
  for (const auto& [name, tensor] : buffers) {
    buffers_.push_back(tensor);
    before_.push_back(tensor.clone());
    folded_ += tensor.numel();
  }
  row_count_ = folded_ + static_cast<std::int64_t>(parameters) + kTail;
  rows_ = ranks_.allocate(static_cast<std::size_t>(program_.rows * row_count_) * sizeof(double));
}

void StepMetadata::begin(const StepShape& shape, double weight) {
  shape_ = shape;
  weight_ = weight;
  current_ = next_ = 0;
  contributions_.resize(program_.steps.size());
  for (Contribution& contribution : contributions_) {
    contribution.is_finished = false;
    contribution.loss = 0;
    contribution.changes.clear();
  }
  for (std::size_t i = 0; i < buffers_.size(); ++i) before_[i].copy_(buffers_[i]);
}

// Each micro-batch starts from the values that the buffers had before the step.
void StepMetadata::capture_changes() {
  if (buffers_.empty() || current_ >= contributions_.size()) return;
  const at::NoGradGuard no_grad;
  std::vector<double>& changes = contributions_[current_].changes;
  changes.resize(static_cast<std::size_t>(folded_) - kChanges, 0);
  double* at = changes.data();
  for (std::size_t i = 0; i < buffers_.size(); ++i) {
    row_of(at, buffers_[i]).add_(buffers_[i].to(at::kDouble).sub_(before_[i]));
    // variable_data() counts no version: backward passes of other micro-batches may be to come,
    // which have saved the buffer but do not read it.
    buffers_[i].variable_data().copy_(before_[i]);
    at += buffers_[i].numel();
  }
}

void StepMetadata::set_micro_batch(int micro_batch) {
  if (current_ == static_cast<std::size_t>(micro_batch)) return;
  capture_changes();
  current_ = static_cast<std::size_t>(micro_batch);
}

void StepMetadata::finish(int micro_batch, double loss_sum) {
  const auto index = static_cast<std::size_t>(micro_batch);
  capture_changes();
  if (current_ == index) ++current_;
  contributions_[index].is_finished = true;
  contributions_[index].loss = loss_sum;
  fold_finished();
}

void StepMetadata::fold_finished() {
  while (next_ < contributions_.size() && contributions_[next_].is_finished) {
    fold(contributions_[next_]);
    ++next_;
  }
}

void StepMetadata::fold(const Contribution& contribution) {
  auto [top, merges] = program_.steps[next_];
  double* const values = row(top);
  values[kLoss] = contribution.loss;
  if (contribution.changes.empty()) {
    std::fill(values + kChanges, values + folded_, 0.0);
  } else {
    std::ranges::copy(contribution.changes, values + kChanges);
  }
  for (; merges > 0; --merges, --top) accumulate({row(top - 1), folded_, DType::kF64}, row(top));
}

Work StepMetadata::start(std::span<const std::int64_t> gradients) {
  capture_changes();
  for (Contribution& contribution : contributions_) contribution.is_finished = true;
  fold_finished();
  for (int index = 0; index < program_.nodes; ++index) {
    std::fill(counts(index), row(index) + row_count_, 0.0);
  }
  if (program_.nodes > 0) {
    std::ranges::copy(gradients, counts(0));
    tail(0)[kPasses] = shape_.passes;
    tail(0)[kStop] = shape_.request_stop ? 1 : 0;
    tail(0)[kWeight] = weight_;
    tail(0)[kWeightSquared] = weight_ * weight_;
  }
  return ranks_.all_reduce({rows_.data(), program_.nodes * row_count_, DType::kF64}, tree_);
}

// The variance of the weights is zero, to rounding, only if all are equal.
void StepMetadata::require_same_weight() const {
  const double sum = tail(0)[kWeight];
  const double variance = ranks_.size() * tail(0)[kWeightSquared] - sum * sum;
  if (variance <= 1e-13 * sum * sum) return;
  throw UsageError(fmt::format(
      "strategy: begin() must be given the same weight on every rank, that of the whole step; rank "
      "{} of {} gave {}, the mean is {}",
      ranks_.rank(), ranks_.size(), weight_, sum / ranks_.size()));
}

void StepMetadata::apply() {
  require_same_weight();
  for (std::size_t p = 0; p < used_.size(); ++p) used_[p] = counts(0)[p] > 0 ? 1 : 0;
  const double passes = tail(0)[kPasses];
  if (passes == 0) return;
  const at::NoGradGuard no_grad;
  double* change = row(0) + kChanges;
  for (std::size_t i = 0; i < buffers_.size(); ++i) {
    at::Tensor now = row_of(change, buffers_[i]).div(passes).add_(before_[i]);
    if (!buffers_[i].is_floating_point()) now.round_();
    buffers_[i].copy_(now);
    change += buffers_[i].numel();
  }
}

}  // namespace trireme
