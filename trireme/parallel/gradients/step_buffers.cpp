#include "trireme/parallel/gradients/step_buffers.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

#include "trireme/kernels/norm.h"
#include "trireme/kernels/reduce.h"
#include "trireme/tensor/fingerprint.h"

namespace trireme {

namespace {

bool is_integral(const at::Tensor& tensor) {
  return at::isIntegralType(tensor.scalar_type(), /*includeBool=*/false);
}

bool is_finite(const at::Tensor& tensor) {
  if (!tensor.is_complex() && !tensor.is_floating_point()) return true;
  return all_finite(host_buffer_of(tensor.is_complex() ? at::view_as_real(tensor) : tensor));
}

// True if a value has stopped to be finite.
bool has_diverged(const at::Tensor& next, const at::Tensor& before) {
  return !is_finite(next) &&
         before.isfinite().logical_and(next.isfinite().logical_not()).any().item<bool>();
}

// `from` where a value is finite and 0 elsewhere: what changes are counted from.
at::Tensor finite_part(const at::Tensor& from) {
  return at::where(from.isfinite(), from, at::zeros({}, from.options()));
}

at::Tensor change_of(const at::Tensor& now, const at::Tensor& before) {
  if (is_integral(now)) return now.to(at::kLong).sub(before.to(at::kLong)).to(at::kDouble);
  return numbers_of(now).sub(finite_part(numbers_of(before)));
}

}  // namespace

StepBuffers::StepBuffers(Communicator& ranks, const ReductionTree& tree, const RowProgram& program,
                         const std::vector<NamedTensor>& buffers, BufferUpdate update)
    : ranks_(ranks), tree_(tree), program_(program) {
  for (const NamedTensor& buffer : buffers) {
    const at::Tensor& tensor = buffer.second;
    buffers_.push_back(
        {.watched = WatchedTensor(buffer),
         .first_only = update == BufferUpdate::kFirst || tensor.scalar_type() == at::kBool,
         .count = tensor.numel() * (tensor.is_complex() ? 2 : 1)});
  }
  changes_.resize(buffers_.size());
}

double StepBuffers::begin(int micro_batches) {
  micro_batches_ = micro_batches;
  std::ranges::fill(changes_, 0.0);
  std::vector<at::Tensor> changed;
  for (Tracked& tracked : buffers_) {
    tracked.contributions.clear();
    tracked.first.reset();
    tracked.next.reset();
    if (!tracked.watched.has_changed()) continue;
    tracked.watched.remember();
    changed.push_back(tracked.watched.remembered());
  }
  return changed.empty() ? 0 : fingerprint_of(changed);
}

void StepBuffers::capture(std::size_t micro_batch) {
  if (micro_batch >= static_cast<std::size_t>(micro_batches_)) return;
  const at::NoGradGuard no_grad;
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    Tracked& tracked = buffers_[b];
    if (!tracked.watched.has_changed()) continue;
    ++changes_[b];
    if (!tracked.first_only) {
      contribute(tracked, micro_batch);
    } else if (micro_batch == 0) {
      tracked.first = tracked.watched.tensor().detach().clone(at::MemoryFormat::Contiguous);
    }
    tracked.watched.restore();
  }
}

// Passes of several micro-batches may alternate: a micro-batch may come more than once.
void StepBuffers::contribute(Tracked& tracked, std::size_t micro_batch) const {
  const at::Tensor& now = tracked.watched.tensor();
  const at::Tensor& before = tracked.watched.remembered();
  at::Tensor change = change_of(now, before);
  const auto earlier =
      std::ranges::find(tracked.contributions, micro_batch, &Contribution::micro_batch);
  if (earlier == tracked.contributions.end()) {
    tracked.contributions.push_back({micro_batch, std::move(change)});
  } else if (is_finite(before)) {
    earlier->values.add_(change);
  } else {
    const at::Tensor old = numbers_of(before);
    const at::Tensor replaced = at::where(old.eq(numbers_of(now)), earlier->values, change);
    earlier->values = at::where(old.isfinite(), earlier->values + change, replaced);
  }
}

void StepBuffers::lay_out() {
  row_count_ = 0;
  for (Tracked& tracked : buffers_) {
    tracked.offset = row_count_;
    if (tracked.changes) row_count_ += tracked.count;
  }
  rows_ = ranks_.allocate(static_cast<std::size_t>(program_.rows * row_count_) * sizeof(double));
}

void StepBuffers::fold(const Tracked& tracked) const {
  const at::Tensor& before = tracked.watched.remembered();
  // What a micro-batch contributes that left the buffer alone: its values that are not finite.
  const at::Tensor unchanged =
      is_finite(before) ? at::Tensor() : numbers_of(before).sub(finite_part(numbers_of(before)));
  const auto bytes = static_cast<std::size_t>(tracked.count) * sizeof(double);
  for (std::size_t i = 0; i < program_.steps.size(); ++i) {
    auto [top, merges] = program_.steps[i];
    double* const to = row(top, tracked);
    const auto own = std::ranges::find(tracked.contributions, i, &Contribution::micro_batch);
    if (own != tracked.contributions.end()) {
      std::memcpy(to, own->values.data_ptr(), bytes);
    } else if (unchanged.defined() && static_cast<int>(i) < micro_batches_) {
      std::memcpy(to, unchanged.data_ptr(), bytes);
    } else {
      std::memset(to, 0, bytes);
    }
    for (; merges > 0; --merges, --top) {
      accumulate({row(top - 1, tracked), tracked.count, DType::kF64}, row(top, tracked));
    }
  }
}

Work StepBuffers::sum() {
  if (row_count_ == 0) return {};
  for (const Tracked& tracked : buffers_) {
    if (tracked.changes) fold(tracked);
  }
  return ranks_.all_reduce({rows_.data(), program_.nodes * row_count_, DType::kF64}, tree_);
}

Work StepBuffers::start() {
  return sum();
}

std::string StepBuffers::finish(std::span<const double> changes, double micro_batches) {
  if (std::ranges::all_of(changes, [](double count) { return count == 0; })) return "";
  const at::NoGradGuard no_grad;
  bool grows = false;
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    Tracked& tracked = buffers_[b];
    if (changes[b] == 0 || tracked.changes || tracked.first_only) continue;
    tracked.changes = grows = true;
  }
  if (grows) {
    lay_out();
    sum().wait();
  }
  std::string bad;
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    Tracked& tracked = buffers_[b];
    if (changes[b] == 0) continue;
    tracked.next = tracked.first_only ? first_of(tracked) : mean_of(tracked, micro_batches);
    if (bad.empty() && has_diverged(tracked.next, tracked.watched.remembered())) {
      bad = tracked.watched.name();
    }
  }
  return bad;
}

at::Tensor StepBuffers::mean_of(const Tracked& tracked, double micro_batches) const {
  const at::Tensor& before = tracked.watched.remembered();
  const at::Tensor numbers = before.is_complex() ? at::view_as_real(before) : before;
  const at::Tensor change =
      tensor_over({row(0, tracked), tracked.count, DType::kF64}, numbers.sizes())
          .div(micro_batches);
  at::Tensor next;
  if (is_integral(before)) {
    next = before.to(at::kLong).add(change.round().to(at::kLong)).to(before.scalar_type());
  } else {
    next = change.add(finite_part(numbers.to(at::kDouble))).to(numbers.scalar_type());
    // -0.0 + 0.0 would be 0.0.
    next = at::where(change.eq(0).logical_and(numbers.isfinite()), numbers, next);
  }
  return before.is_complex() ? at::view_as_complex(next) : next;
}

at::Tensor StepBuffers::first_of(const Tracked& tracked) const {
  at::Tensor value = tracked.first.defined() ? tracked.first : tracked.watched.remembered().clone();
  ranks_.broadcast(bytes_of(value), 0).wait();
  return value;
}

void StepBuffers::commit() {
  for (Tracked& tracked : buffers_) {
    if (tracked.next.defined()) tracked.watched.assign(tracked.next);
    tracked.next.reset();
  }
}

}  // namespace trireme
