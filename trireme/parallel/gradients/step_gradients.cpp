#include "trireme/parallel/gradients/step_gradients.h"

#include <ATen/ATen.h>

namespace trireme {

StepGradients::StepGradients(Communicator& ranks, const NamedTensors& model,
                             const StrategyOptions& options, Mode mode)
    : ranks_(ranks), tree_(tree_of(options, ranks.size())) {
  std::vector<BucketLayout::Parameter> sizes;
  std::vector<NamedShape> shapes;
  for (const NamedTensor& parameter : model.parameters) {
    index_of_.push_back(parameters_.size());
    const auto& [name, tensor] = parameter;
    if (!tensor.requires_grad()) continue;
    parameters_.push_back(parameter);
    sizes.push_back({.count = tensor.numel(), .dtype = dtype_of(tensor.scalar_type())});
    shapes.push_back({name, tensor.sizes().vec()});
  }
  layout_.emplace(sizes, tree_, options.bucket_bytes);
  const int rank = ranks.rank();
  memory_ = ranks.allocate(layout_->bytes_of(rank));
  accumulator_.emplace(*layout_, rank, memory_.data());
  if (mode == Mode::kReduce) {
    reducer_.emplace(ranks, tree_, *layout_, memory_.data(), shapes, options.compression);
  }
  metadata_.emplace(ranks, tree_, layout_->program(rank), parameters_.size(), model.buffers);
}

void StepGradients::begin(const StepShape& shape, double divisor) {
  divisor_ = divisor;
  accumulator_->begin();
  if (reducer_) reducer_->begin(divisor);
  metadata_->begin(shape, divisor);
}

void StepGradients::add(int parameter, int micro_batch, const at::Tensor& gradient) {
  const std::size_t p = index_of_[static_cast<std::size_t>(parameter)];
  const bool completes = accumulator_->add(p, micro_batch, gradient.contiguous().data_ptr());
  if (completes && reducer_) reducer_->start_complete(*accumulator_);
}

void StepGradients::finish(int micro_batch, double loss_sum) {
  const bool completes = accumulator_->finish(micro_batch);
  metadata_->finish(micro_batch, loss_sum);
  if (completes && reducer_) reducer_->start_complete(*accumulator_);
}

void StepGradients::reduce() {
  accumulator_->finish_all();
  if (reducer_) reducer_->start_complete(*accumulator_);
  Work told = metadata_->start(accumulator_->gradients());
  if (reducer_) reducer_->wait();
  told.wait();
  metadata_->apply();
  if (reducer_) reducer_->finish(metadata_->used());
}

Buffer StepGradients::row(int rank, std::size_t p, int row) const {
  return layout_->row(memory_.peer(rank), rank, p, row);
}

std::vector<Strategy::State> StepGradients::state() {
  return reducer_ ? reducer_->state() : std::vector<Strategy::State>();
}

}  // namespace trireme
