#include "trireme/parallel/outer_optimizer.h"

#include <ATen/ATen.h>

#include "trireme/kernels/optimizers.h"

namespace trireme {

namespace {

at::Tensor part_of(const at::Tensor& flat, Range range) {
  return flat.narrow(0, range.begin, range.size());
}

}  // namespace

OuterOptimizer::OuterOptimizer(Communicator& groups, const FlatParameters& parameters,
                               Options options)
    : groups_(groups),
      parameters_(parameters),
      options_(options),
      sent_(groups.allocate(static_cast<std::size_t>(parameters.size()) *
                            size_of(parameters.dtype()))) {
  const auto type = scalar_type_of(parameters.dtype());
  if (!averages()) agreed_ = at::zeros({parameters.size()}, type);
  if (options.momentum > 0) momentum_ = at::zeros({parameters.size()}, type);
}

void OuterOptimizer::remember() {
  if (agreed_.defined()) parameters_.read(all(), agreed_);
}

Buffer OuterOptimizer::sent(Range range) const {
  const Buffer whole{sent_.data(), parameters_.size(), parameters_.dtype()};
  return whole.slice(range.begin, range.size());
}

at::Tensor OuterOptimizer::sent_tensor(Range range) const {
  return tensor_over(sent(range), {range.size()});
}

Work OuterOptimizer::reduce(Range range) {
  if (options_.weight != 1) sent_tensor(range).mul_(options_.weight);
  return groups_.all_reduce(sent(range), ReduceOp::kMean);
}

Work OuterOptimizer::start(Range range) {
  const at::NoGradGuard no_grad;
  const at::Tensor out = sent_tensor(range);
  parameters_.read(range, out);
  if (!averages()) out.neg_().add_(part_of(agreed_, range));
  return reduce(range);
}

void OuterOptimizer::apply(Range range, double kept) {
  const at::NoGradGuard no_grad;
  at::Tensor common = sent_tensor(range);
  if (!averages()) {
    at::Tensor agreed = part_of(agreed_, range);
    void* const momentum = momentum_.defined() ? part_of(momentum_, range).data_ptr() : nullptr;
    update_sgd(
        {buffer_of(agreed), common.data_ptr()},
        {.lr = options_.lr, .momentum = options_.momentum, .nesterov = options_.momentum > 0},
        momentum);
    common = agreed;
  }
  if (kept == 0) return parameters_.write(range, common);
  at::Tensor mixed = at::empty_like(common);
  parameters_.read(range, mixed);
  parameters_.write(range, mixed.mul_(kept).add_(common, 1 - kept));
}

Work OuterOptimizer::start_mean() {
  const at::NoGradGuard no_grad;
  parameters_.read(all(), sent_tensor(all()));
  return reduce(all());
}

void OuterOptimizer::apply_mean() {
  const at::NoGradGuard no_grad;
  parameters_.write(all(), sent_tensor(all()));
  remember();
}

std::vector<Strategy::State> OuterOptimizer::state() const {
  std::vector<Strategy::State> state;
  if (!momentum_.defined()) return state;
  for (const FlatParameters::Parameter& parameter : parameters_.parameters()) {
    state.push_back({.name = "outer_momentum." + parameter.name,
                     .full_shape = parameter.tensor.sizes().vec(),
                     .values = buffer_of(part_of(momentum_, parameter.range))});
  }
  return state;
}

}  // namespace trireme
