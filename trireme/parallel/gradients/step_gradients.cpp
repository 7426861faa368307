#include "trireme/parallel/gradients/step_gradients.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "trireme/kernels/norm.h"
#include "trireme/parallel/gradients/lay_out.h"

namespace trireme {

StepGradients::StepGradients(Communicator& ranks, const NamedTensors& model,
                             const StrategyOptions& options, Mode mode)
    : ranks_(ranks), tree_(tree_of(options, ranks.size())) {
  lay_out(model, options, nullptr);
  if (mode == Mode::kCollect) return;
  std::vector<NamedShape> shapes;
  for (const auto& [name, tensor] : parameters_) shapes.push_back({name, tensor.sizes().vec()});
  reducer_.emplace(ranks, tree_, *layout_, *memory_, shapes, options.compression);
}

StepGradients::StepGradients(Communicator& ranks, const NamedTensors& model,
                             const StrategyOptions& options, const GradientParts& parts)
    : ranks_(ranks), tree_(tree_of(options, ranks.size())) {
  lay_out(model, options, &parts);
  scatter_.emplace(ranks, tree_, *layout_, *memory_, parts);
}

void StepGradients::lay_out(const NamedTensors& model, const StrategyOptions& options,
                            const GradientParts* parts) {
  for (const NamedTensor& parameter : model.parameters) {
    index_of_.push_back(parameters_.size());
    if (parameter.second.requires_grad()) parameters_.push_back(parameter);
  }
  layout_.emplace(trireme::lay_out(model, tree_, options.bucket_bytes, parts));
  const RowProgram& program = layout_->program(ranks_.rank());
  memory_.emplace(ranks_, *layout_, memory_mode_of(*layout_, tree_, parts));
  accumulator_.emplace(*layout_, ranks_.rank(), *memory_);
  buffers_.emplace(ranks_, tree_, program, model.buffers, options.buffers);
  metadata_.emplace(ranks_, tree_, program, parameters_.size(), model.buffers.size());
}

void StepGradients::begin(const StepShape& shape, double divisor) {
  if (is_open_) end_step(/*is_skipped=*/true);
  divisor_ = divisor;
  current_ = 0;
  largest_ = 0;
  bad_micro_batch_ = kNone;
  bad_buffer_.clear();
  sums_are_finite_ = true;
  accumulator_->begin();
  if (reducer_) reducer_->begin(divisor);
  if (scatter_) scatter_->begin(divisor);
  StepShape with_buffers = shape;
  unverified_changes_ += buffers_->begin(shape.passes);
  with_buffers.changed_values += unverified_changes_;
  metadata_->begin(with_buffers, divisor);
}

void StepGradients::add(int parameter, int micro_batch, const at::Tensor& gradient) {
  const std::size_t p = index_of_[static_cast<std::size_t>(parameter)];
  const at::Tensor contiguous = gradient.contiguous();
  const Buffer values = host_buffer_of(contiguous);
  const double largest = largest_magnitude(values) / largest_finite(values.dtype);
  largest_ = std::max(largest_, largest);
  if (!std::isfinite(largest)) note_bad(micro_batch);
  if (scatter_) scatter_->make_room(layout_->slots()[p].bucket);
  if (accumulator_->add(p, micro_batch, values.data)) start_complete();
}

void StepGradients::start_complete() {
  if (reducer_) reducer_->start_complete(*accumulator_);
  if (scatter_) scatter_->start_complete(*accumulator_);
}

void StepGradients::note_bad(int micro_batch) {
  if (bad_micro_batch_ == kNone || micro_batch < bad_micro_batch_) bad_micro_batch_ = micro_batch;
}

void StepGradients::set_micro_batch(int micro_batch) {
  if (current_ == static_cast<std::size_t>(micro_batch)) return;
  buffers_->capture(current_);
  current_ = static_cast<std::size_t>(micro_batch);
}

void StepGradients::finish(int micro_batch, double loss_sum) {
  const bool completes = accumulator_->finish(micro_batch);
  buffers_->capture(current_);
  if (current_ == static_cast<std::size_t>(micro_batch)) ++current_;
  if (!std::isfinite(loss_sum)) note_bad(micro_batch);
  metadata_->finish(micro_batch, loss_sum);
  if (completes) start_complete();
}

void StepGradients::reduce() {
  accumulator_->finish_all();
  start_complete();
  buffers_->capture(current_);
  const auto micro_batches = static_cast<double>(layout_->program(ranks_.rank()).steps.size());
  Work told = metadata_->start({.gradients = accumulator_->gradients(),
                                .buffer_changes = buffers_->changes(),
                                .bound = largest_ * micro_batches});
  Work changed = buffers_->start();
  if (reducer_) reducer_->wait();
  if (scatter_) scatter_->wait();
  told.wait();
  changed.wait();
  is_open_ = true;
  metadata_->finish();
  unverified_changes_ = 0;
  bad_buffer_ = buffers_->finish(metadata_->buffer_changes(), metadata_->micro_batches());
  if (!reducer_) return;
  reducer_->finish(metadata_->used());
  // Codecs may overflow where the gradients do not. Every rank has the same sums.
  if (sums_may_overflow() || reducer_->compresses()) sums_are_finite_ = all_sums_are_finite();
}

bool StepGradients::has_own_gradients() const {
  return std::ranges::any_of(accumulator_->gradients(),
                             [](std::int64_t count) { return count > 0; });
}

bool StepGradients::sums_may_overflow() const {
  return metadata_->bound() >= 0.5;
}

bool StepGradients::all_sums_are_finite() const {
  for (std::size_t p = 0; p < parameters_.size(); ++p) {
    if (has_gradient(p) && !all_finite(row(ranks_.rank(), p, 0))) return false;
  }
  return true;
}

bool StepGradients::may_overflow() const {
  return !reducer_ && sums_may_overflow() && std::isfinite(metadata_->bound());
}

GradientReport StepGradients::report() const {
  return {.loss = loss(),
          .is_finite = std::isfinite(loss()) && std::isfinite(metadata_->bound()) &&
                       sums_are_finite_ && bad_buffer_.empty(),
          .bad_micro_batch = bad_micro_batch_,
          .bad_buffer = bad_buffer_};
}

void StepGradients::end_step(bool is_skipped) {
  if (!is_skipped) {
    buffers_->commit();
  } else if (reducer_) {
    reducer_->restore_state();
  }
  is_open_ = false;
}

Buffer StepGradients::row(int rank, std::size_t p, int row) const {
  return layout_->row(memory_->peer(rank, layout_->slots()[p].bucket), rank, p, row);
}

std::vector<Strategy::State> StepGradients::state() {
  if (is_open_) end_step(/*is_skipped=*/true);
  return reducer_ ? reducer_->state() : std::vector<Strategy::State>();
}

}  // namespace trireme
