#include "trireme/parallel/outer_optimizer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <span>

#include "trireme/kernels/optimizers.h"

namespace trireme {

namespace {

at::Tensor part_of(const at::Tensor& flat, Range range) {
  return flat.narrow(0, range.begin, range.size());
}

std::vector<CompressedSum::Tensor> described(const std::vector<FlatParameters::Parameter>& slices) {
  std::vector<CompressedSum::Tensor> tensors;
  for (const auto& slice : slices) tensors.push_back({slice.name, slice.tensor.sizes().vec()});
  return tensors;
}

}  // namespace

OuterOptimizer::OuterOptimizer(Communicator& groups, const FlatParameters& parameters,
                               std::vector<Range> fragments, Options options)
    : groups_(groups),
      parameters_(parameters),
      fragments_(std::move(fragments)),
      options_(std::move(options)),
      sent_(groups.allocate(static_cast<std::size_t>(parameters.size()) *
                            size_of(parameters.dtype()))) {
  if (options_.compression.codec != "none") {
    for (const Range range : fragments_) {
      compressed_.emplace_back(groups, options_.compression, described(parameters.slices(range)));
    }
  }
  const auto type = scalar_type_of(parameters.dtype());
  const bool averages = options_.lr == 1 && options_.momentum == 0;
  if (!averages || compresses()) agreed_ = at::zeros({parameters.size()}, type);
  if (options_.momentum > 0) momentum_ = at::zeros({parameters.size()}, type);
}

void OuterOptimizer::snapshot() {
  if (agreed_.defined()) parameters_.read(all(), agreed_);
  has_agreed_ = 1;
}

Buffer OuterOptimizer::sent(Range range) const {
  const Buffer whole{sent_.data(), parameters_.size(), parameters_.dtype()};
  return whole.slice(range.begin, range.size());
}

at::Tensor OuterOptimizer::sent_tensor(Range range) const {
  return tensor_over(sent(range), {range.size()});
}

std::vector<Buffer> OuterOptimizer::sent_parts(std::size_t fragment) const {
  std::vector<Buffer> parts;
  for (const auto& slice : parameters_.slices(fragments_[fragment])) {
    parts.push_back(sent(slice.range));
  }
  return parts;
}

void OuterOptimizer::weigh(Range range) {
  if (options_.weight != 1) sent_tensor(range).mul_(options_.weight);
}

Work OuterOptimizer::start(std::size_t fragment, std::int64_t step) {
  const at::NoGradGuard no_grad;
  const Range range = fragments_[fragment];
  const at::Tensor out = sent_tensor(range);
  parameters_.read(range, out);
  if (agreed_.defined()) out.neg_().add_(part_of(agreed_, range));
  weigh(range);
  if (!compresses()) return groups_.all_reduce(sent(range), ReduceOp::kMean);
  out.div_(groups_.size());
  return compressed_[fragment].start(sent_parts(fragment), step);
}

void OuterOptimizer::finish(std::size_t fragment) {
  if (compresses()) compressed_[fragment].finish(sent_parts(fragment));
}

void OuterOptimizer::apply(std::size_t fragment, double alpha) {
  const at::NoGradGuard no_grad;
  const Range range = fragments_[fragment];
  at::Tensor common = sent_tensor(range);
  if (agreed_.defined()) {
    at::Tensor agreed = part_of(agreed_, range);
    void* const momentum = momentum_.defined() ? part_of(momentum_, range).data_ptr() : nullptr;
    update_sgd(
        {host_buffer_of(agreed), common.data_ptr()},
        {.lr = options_.lr, .momentum = options_.momentum, .nesterov = options_.momentum > 0},
        momentum);
    common = agreed;
  }
  if (alpha == 0) return parameters_.write(range, common);
  at::Tensor mixed = at::empty_like(common);
  parameters_.read(range, mixed);
  parameters_.write(range, mixed.mul_(alpha).add_(common, 1 - alpha));
}

void OuterOptimizer::average(std::size_t fragment, bool keeps_finished) {
  const at::NoGradGuard no_grad;
  const Range range = fragments_[fragment];
  const at::Tensor values = sent_tensor(range);
  const at::Tensor finished = keeps_finished ? values.clone() : at::Tensor();
  parameters_.read(range, values);
  weigh(range);
  groups_.all_reduce(sent(range), ReduceOp::kMean).wait();
  parameters_.write(range, values);
  if (keeps_finished) values.copy_(finished);
}

std::vector<Strategy::State> OuterOptimizer::state() {
  std::vector<Strategy::State> state;
  const auto append = [&](const std::string& name, const at::Tensor& flat) {
    if (!flat.defined()) return;
    for (const FlatParameters::Parameter& parameter : parameters_.parameters()) {
      state.push_back({.name = name + "." + parameter.name,
                       .region = Region(parameter.tensor.sizes().vec()),
                       .values = host_buffer_of(part_of(flat, parameter.range)),
                       .is_written = groups_.rank() == 0});
    }
  };
  append("outer_momentum", momentum_);
  if (options_.saves_agreed && agreed_.defined()) {
    append("agreed", agreed_);
    state.push_back({.name = "has_agreed",
                     .region = Region({1}),
                     .values = buffer_of(std::span(&has_agreed_, 1)),
                     .is_written = groups_.rank() == 0});
  }
  for (std::size_t f = 0; f < compressed_.size(); ++f) {
    for (Strategy::State& tensor : compressed_[f].state()) {
      if (fragments_.size() > 1) {
        tensor.name.insert(0, fmt::format("fragment_{}_of_{}.", f, fragments_.size()));
      }
      state.push_back(std::move(tensor));
    }
  }
  return state;
}

}  // namespace trireme
