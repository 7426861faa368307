#include "trireme/optim/ftrl.h"

#include "trireme/optim/requirements.h"

namespace trireme {

namespace {

void check(const FtrlOptions& options) {
  require_positive("ftrl", "lr", options.lr);
  require_not_negative("ftrl", "beta", options.beta);
  require_not_negative("ftrl", "l1", options.l1);
  require_not_negative("ftrl", "l2", options.l2);
}

}  // namespace

Ftrl::Ftrl(std::span<Shard> shards, FtrlOptions options)
    : Optimizer("ftrl", shards, {.lr = options.lr}, {{"z"}, {"n"}}), options_(options) {
  check(options);
}

void Ftrl::apply(const Update& part, const Rates& rates, std::span<void* const> state,
                 std::int64_t) {
  update_ftrl(part, {rates.lr, options_.beta, options_.l1, options_.l2}, state[0], state[1]);
}

}  // namespace trireme
