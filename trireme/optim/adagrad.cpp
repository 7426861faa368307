#include "trireme/optim/adagrad.h"

#include "trireme/optim/requirements.h"

namespace trireme {

namespace {

void check(const AdagradOptions& options) {
  require_positive("adagrad", "lr", options.lr);
  require_not_negative("adagrad", "lr_decay", options.lr_decay);
  require_not_negative("adagrad", "eps", options.eps);
  require_not_negative("adagrad", "weight_decay", options.weight_decay);
  require_not_negative("adagrad", "initial_accumulator", options.initial_accumulator);
}

}  // namespace

Adagrad::Adagrad(std::span<Shard> shards, AdagradOptions options)
    : Optimizer("adagrad", shards, {.lr = options.lr, .weight_decay = options.weight_decay},
                {{"sum", options.initial_accumulator}}),
      options_(options) {
  check(options);
}

void Adagrad::apply(const Update& part, const Rates& rates, std::span<void* const> state,
                    std::int64_t step) {
  const double decayed = rates.lr / (1 + static_cast<double>(step - 1) * options_.lr_decay);
  update_adagrad(part, {decayed, options_.eps, *rates.weight_decay}, state[0]);
}

}  // namespace trireme
