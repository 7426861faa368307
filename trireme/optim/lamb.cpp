#include "trireme/optim/lamb.h"

#include <algorithm>
#include <cmath>

#include "trireme/kernels/norm.h"
#include "trireme/optim/requirements.h"

namespace trireme {

namespace {

void check(const LambOptions& options) {
  require_positive("lamb", "lr", options.lr);
  require_fraction("lamb", "beta1", options.beta1);
  require_fraction("lamb", "beta2", options.beta2);
  require_not_negative("lamb", "eps", options.eps);
  require_not_negative("lamb", "weight_decay", options.weight_decay);
}

// Updates the moments of a tensor and returns its trust ratio. The direction is forgotten, which
// costs one more read of the moments and saves the memory of the largest tensor.
double trust_ratio(const Update& tensor, const AdamRule& rule, const Buffer& m, const Buffer& v) {
  alignas(64) std::byte direction[Optimizer::kBlock * sizeof(double)];
  double squares_of_values = 0, squares_of_direction = 0;
  const Buffer gradient{const_cast<void*>(tensor.gradient), tensor.values.count,
                        tensor.values.dtype};
  for (std::int64_t first = 0; first < tensor.values.count; first += Optimizer::kBlock) {
    const std::int64_t count = std::min(Optimizer::kBlock, tensor.values.count - first);
    Update block = tensor;
    block.values = tensor.values.slice(first, count);
    block.gradient = gradient.slice(first, count).data;
    lamb_direction(block, rule, m.slice(first, count).data, v.slice(first, count).data, direction);
    squares_of_values += sum_of_squares(block.values);
    squares_of_direction += sum_of_squares({direction, count, tensor.values.dtype});
  }
  if (squares_of_values == 0 || squares_of_direction == 0) return 1;
  return std::sqrt(squares_of_values) / std::sqrt(squares_of_direction);
}

}  // namespace

Lamb::Lamb(std::span<Shard> shards, LambOptions options)
    : Optimizer("lamb", shards,
                {.lr = options.lr,
                 .weight_decay = options.weight_decay,
                 .betas = {{options.beta1, options.beta2}}},
                {{"exp_avg"}, {"exp_avg_sq"}},
                {.reason = "the trust ratio is taken from the norms of the whole parameter"}),
      options_(options) {
  check(options);
}

void Lamb::apply(const Update& part, const Rates& rates, std::span<void* const> state,
                 std::int64_t step) {
  const AdamRule rule{.lr = rates.lr,
                      .beta1 = (*rates.betas)[0],
                      .beta2 = (*rates.betas)[1],
                      .eps = options_.eps,
                      .weight_decay = *rates.weight_decay,
                      .step = step};
  const Buffer& values = part.values;
  const double ratio = trust_ratio(part, rule, {state[0], values.count, values.dtype},
                                   {state[1], values.count, values.dtype});
  update_lamb(values, rule, ratio, state[0], state[1]);
}

}  // namespace trireme
