#include "trireme/optim/sgd.h"

#include "trireme/base/error.h"
#include "trireme/optim/requirements.h"

namespace trireme {

namespace {

void check(const SgdOptions& options) {
  require_positive("sgd", "lr", options.lr);
  require_fraction("sgd", "momentum", options.momentum);
  require_fraction("sgd", "dampening", options.dampening);
  require_not_negative("sgd", "weight_decay", options.weight_decay);
  if (options.nesterov && (options.momentum == 0 || options.dampening != 0)) {
    throw UsageError("sgd: nesterov needs a momentum above 0 and no dampening");
  }
}

std::vector<Optimizer::StateArray> arrays_of(const SgdOptions& options) {
  if (options.momentum == 0) return {};
  return {{"momentum_buffer"}};
}

}  // namespace

Sgd::Sgd(std::span<Shard> shards, SgdOptions options)
    : Optimizer("sgd", shards, {.lr = options.lr, .weight_decay = options.weight_decay},
                arrays_of(options)),
      options_(options) {
  check(options);
}

void Sgd::apply(const Update& part, const Rates& rates, std::span<void* const> state,
                std::int64_t step) {
  update_sgd(part,
             {.lr = rates.lr,
              .momentum = options_.momentum,
              .dampening = options_.dampening,
              .weight_decay = *rates.weight_decay,
              .nesterov = options_.nesterov,
              .first_step = step == 1},
             state.empty() ? nullptr : state[0]);
}

}  // namespace trireme
