#include "trireme/optim/adam.h"

#include "trireme/optim/requirements.h"

namespace trireme {

namespace {

template <class Options>
void check(std::string_view who, const Options& options) {
  require_positive(who, "lr", options.lr);
  require_fraction(who, "beta1", options.beta1);
  require_fraction(who, "beta2", options.beta2);
  require_not_negative(who, "eps", options.eps);
  require_not_negative(who, "weight_decay", options.weight_decay);
}

AdamRule rule_of(double lr, double weight_decay, std::span<const double, 2> betas, double eps,
                 std::int64_t step) {
  return {.lr = lr,
          .beta1 = betas[0],
          .beta2 = betas[1],
          .eps = eps,
          .weight_decay = weight_decay,
          .step = step};
}

}  // namespace

Adam::Adam(std::span<Shard> shards, AdamOptions options)
    : Optimizer("adam", shards,
                {.lr = options.lr,
                 .weight_decay = options.weight_decay,
                 .betas = {{options.beta1, options.beta2}}},
                {{"exp_avg"}, {"exp_avg_sq"}}),
      options_(options) {
  check("adam", options);
}

void Adam::apply(const Update& part, const Rates& rates, std::span<void* const> state,
                 std::int64_t step) {
  update_adam(part, rule_of(rates.lr, *rates.weight_decay, *rates.betas, options_.eps, step),
              state[0], state[1]);
}

AdamW::AdamW(std::span<Shard> shards, AdamWOptions options)
    : Optimizer("adamw", shards,
                {.lr = options.lr,
                 .weight_decay = options.weight_decay,
                 .betas = {{options.beta1, options.beta2}}},
                {{"exp_avg"}, {"exp_avg_sq"}}),
      options_(options) {
  check("adamw", options);
}

void AdamW::apply(const Update& part, const Rates& rates, std::span<void* const> state,
                  std::int64_t step) {
  AdamRule rule = rule_of(rates.lr, *rates.weight_decay, *rates.betas, options_.eps, step);
  rule.decoupled = true;
  update_adam(part, rule, state[0], state[1]);
}

}  // namespace trireme
