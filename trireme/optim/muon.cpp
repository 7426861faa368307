#include "trireme/optim/muon.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "trireme/base/error.h"
#include "trireme/optim/orthogonalize.h"
#include "trireme/optim/requirements.h"

namespace trireme {

namespace {

constexpr std::int64_t kMostSteps = 100;

void check(const MuonOptions& options) {
  require_positive("muon", "lr", options.lr);
  require_fraction("muon", "momentum", options.momentum);
  require_not_negative("muon", "weight_decay", options.weight_decay);
  require_not_negative("muon", "adamw_lr_factor", options.adamw_lr_factor);
  require_fraction("muon", "beta1", options.beta1);
  require_fraction("muon", "beta2", options.beta2);
  require_not_negative("muon", "eps", options.eps);
  if (options.newton_schulz_steps >= 1 && options.newton_schulz_steps <= kMostSteps) return;
  throw UsageError(fmt::format("muon: newton_schulz_steps must be 1 to {}, got {}", kMostSteps,
                               options.newton_schulz_steps));
}

double scale_of(const MatrixShape& matrix) {
  const double ratio = static_cast<double>(matrix.outputs()) / static_cast<double>(matrix.inputs());
  return std::sqrt(std::max(1.0, ratio));
}

}  // namespace

Muon::Muon(std::span<Shard> shards, MuonOptions options)
    : Optimizer("muon", shards,
                {.lr = options.lr,
                 .weight_decay = options.weight_decay,
                 .betas = {{options.beta1, options.beta2}}},
                {{"exp_avg"}, {"exp_avg_sq"}},
                {.reason = "Newton-Schulz iterations multiply whole matrices",
                 .matrix_arrays = {{"momentum_buffer"}},
                 .scratch_arrays = 4}),
      options_(options) {
  check(options);
}

void Muon::apply(const Update& part, const Rates& rates, std::span<void* const> state,
                 std::int64_t step) {
  if (!rates.matrix) return apply_adamw(part, rates, state, step);
  Update direction = part;
  direction.values = scratch(0, part.values);
  std::memset(direction.values.data, 0, direction.values.bytes());
  // From zero, with a rate of -1: what remains is gradient + momentum * buffer.
  update_sgd(direction, {.lr = -1, .momentum = options_.momentum, .nesterov = true}, state[0]);
  const Buffer rest[] = {scratch(1, part.values), scratch(2, part.values), scratch(3, part.values)};
  orthogonalize(direction.values, rates.matrix->rows, rates.matrix->columns,
                options_.newton_schulz_steps, rest);
  const double scale = scale_of(*rates.matrix);
  update_sgd({.values = part.values, .gradient = direction.values.data},
             {.lr = rates.lr * scale, .weight_decay = *rates.weight_decay / scale}, nullptr);
}

void Muon::apply_adamw(const Update& part, const Rates& rates, std::span<void* const> state,
                       std::int64_t step) const {
  update_adam(part,
              {.lr = rates.lr * options_.adamw_lr_factor,
               .beta1 = (*rates.betas)[0],
               .beta2 = (*rates.betas)[1],
               .eps = options_.eps,
               .weight_decay = *rates.weight_decay,
               .decoupled = true,
               .step = step},
              state[0], state[1]);
}

}  // namespace trireme
