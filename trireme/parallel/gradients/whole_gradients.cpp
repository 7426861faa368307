#include "trireme/parallel/gradients/whole_gradients.h"

#include "trireme/parallel/gradient_norm.h"

namespace trireme {

WholeGradients::WholeGradients(Communicator& ranks, const NamedTensors& model,
                               const StrategyOptions& options)
    : gradients_(ranks, model, options, StepGradients::Mode::kReduce) {
  for (std::size_t p = 0; p < gradients_.parameters(); ++p) {
    const at::Tensor& parameter = gradients_.parameter(p);
    const Buffer gradient = gradients_.row(ranks.rank(), p, 0);
    results_.push_back(tensor_over(gradient, parameter.sizes()));
    shards_.push_back({.name = gradients_.name(p),
                       .region = Region(parameter.sizes().vec()),
                       .values = host_buffer_of(parameter),
                       .gradient = {gradient.data}});
  }
}

WholeGradients::~WholeGradients() {
  for (std::size_t p = 0; p < results_.size(); ++p) {
    at::Tensor& gradient = gradients_.parameter(p).mutable_grad();
    if (gradient.defined() && gradient.is_same(results_[p])) gradient.reset();
  }
}

GradientSink& WholeGradients::begin(const StepShape& shape, double divisor) {
  gradients_.begin(shape, divisor);
  return gradients_;
}

GradientReport WholeGradients::reduce() {
  gradients_.reduce();
  for (std::size_t p = 0; p < shards_.size(); ++p) {
    shards_[p].has_gradient = gradients_.has_gradient(p);
    if (shards_[p].has_gradient) gradients_.parameter(p).mutable_grad() = results_[p];
  }
  return gradients_.report();
}

double WholeGradients::norm() {
  squares_.clear();
  append_block_squares(shards_, squares_);
  return norm_of(squares_);
}

}  // namespace trireme
