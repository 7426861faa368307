#include "trireme/optim/rmsprop.h"

#include "trireme/optim/requirements.h"

namespace trireme {

namespace {

void check(const RmspropOptions& options) {
  require_positive("rmsprop", "lr", options.lr);
  require_fraction("rmsprop", "alpha", options.alpha);
  require_not_negative("rmsprop", "eps", options.eps);
  require_not_negative("rmsprop", "weight_decay", options.weight_decay);
  require_fraction("rmsprop", "momentum", options.momentum);
}

std::vector<Optimizer::StateArray> arrays_of(const RmspropOptions& options) {
  std::vector<Optimizer::StateArray> arrays = {{"square_avg"}};
  if (options.centered) arrays.push_back({"grad_avg"});
  if (options.momentum > 0) arrays.push_back({"momentum_buffer"});
  return arrays;
}

}  // namespace

Rmsprop::Rmsprop(std::span<Shard> shards, RmspropOptions options)
    : Optimizer("rmsprop", shards, {.lr = options.lr, .weight_decay = options.weight_decay},
                arrays_of(options)),
      options_(options) {
  check(options);
}

void Rmsprop::apply(const Update& part, const Rates& rates, std::span<void* const> state,
                    std::int64_t) {
  update_rmsprop(part,
                 {.lr = rates.lr,
                  .alpha = options_.alpha,
                  .eps = options_.eps,
                  .weight_decay = *rates.weight_decay,
                  .momentum = options_.momentum},
                 state.front(), options_.centered ? state[1] : nullptr,
                 options_.momentum > 0 ? state.back() : nullptr);
}

}  // namespace trireme
