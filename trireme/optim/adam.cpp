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

template <class Options>
AdamRule rule_of(const Options& options, double lr, std::int64_t step) {
  return {.lr = lr,
          .beta1 = options.beta1,
          .beta2 = options.beta2,
          .eps = options.eps,
          .weight_decay = options.weight_decay,
          .step = step};
}

}  // namespace

Adam::Adam(std::span<Shard> shards, AdamOptions options)
    : Optimizer("adam", shards, options.lr, {{"exp_avg"}, {"exp_avg_sq"}}), options_(options) {
  check("adam", options);
}

void Adam::apply(const Update& part, std::span<void* const> state, std::int64_t step) {
  update_adam(part, rule_of(options_, lr(), step), state[0], state[1]);
}

AdamW::AdamW(std::span<Shard> shards, AdamWOptions options)
    : Optimizer("adamw", shards, options.lr, {{"exp_avg"}, {"exp_avg_sq"}}), options_(options) {
  check("adamw", options);
}

void AdamW::apply(const Update& part, std::span<void* const> state, std::int64_t step) {
  AdamRule rule = rule_of(options_, lr(), step);
  rule.decoupled = true;
  update_adam(part, rule, state[0], state[1]);
}

}  // namespace trireme
