#include "trireme/parallel/gradients/step_metadata.h"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/base/error.h"

namespace trireme {

StepMetadata::StepMetadata(Communicator& ranks, const ReductionTree& tree,
                           const RowProgram& program, std::size_t parameters, std::size_t buffers)
    : ranks_(ranks),
      tree_(tree),
      program_(program),
      used_(parameters),
      buffers_(buffers),
      row_count_(1 + static_cast<std::int64_t>(parameters + buffers) + kTail) {
  rows_ = ranks_.allocate(static_cast<std::size_t>(program_.rows * row_count_) * sizeof(double));
}

void StepMetadata::begin(const StepShape& shape, double weight) {
  shape_ = shape;
  weight_ = weight;
  next_ = 0;
  contributions_.assign(program_.steps.size(), {});
}

void StepMetadata::finish(int micro_batch, double loss_sum) {
  contributions_[static_cast<std::size_t>(micro_batch)] = {true, loss_sum};
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
  *row(top) = contribution.loss;
  for (; merges > 0; --merges, --top) *row(top - 1) += *row(top);
}

Work StepMetadata::start(const OfRank& rank) {
  for (Contribution& contribution : contributions_) contribution.is_finished = true;
  fold_finished();
  for (int index = 0; index < program_.nodes; ++index) {
    std::fill(counts(index), row(index) + row_count_, 0.0);
  }
  if (program_.nodes > 0) {
    std::ranges::copy(rank.gradients, counts(0));
    std::ranges::copy(rank.buffer_changes, counts(0) + used_.size());
    tail(0)[kPasses] = shape_.passes;
    tail(0)[kStop] = shape_.request_stop ? 1 : 0;
    tail(0)[kBound] = rank.bound;
    tail(0)[kWeight] = weight_;
    tail(0)[kWeightSquared] = weight_ * weight_;
    tail(0)[kChanged] = shape_.changed_values;
    tail(0)[kChangedSquared] = shape_.changed_values * shape_.changed_values;
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

// Fingerprints are integers so small that both sums are exact.
void StepMetadata::require_same_changes() const {
  const double sum = tail(0)[kChanged];
  if (ranks_.size() * tail(0)[kChangedSquared] == sum * sum) return;
  throw UsageError(fmt::format(
      "strategy: parameters or buffers were changed between two steps and are not the same on all "
      "ranks; load the same values on every rank, and call model.eval() before a forward pass "
      "outside of a step (rank {} of {} has {})",
      ranks_.rank(), ranks_.size(),
      shape_.changed_values == 0 ? "changed nothing" : "changed some"));
}

void StepMetadata::finish() {
  require_same_weight();
  require_same_changes();
  for (std::size_t p = 0; p < used_.size(); ++p) used_[p] = counts(0)[p] > 0 ? 1 : 0;
}

}  // namespace trireme
