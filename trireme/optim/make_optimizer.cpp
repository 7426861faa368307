#include "trireme/optim/make_optimizer.h"

#include "trireme/optim/adagrad.h"
#include "trireme/optim/adam.h"
#include "trireme/optim/ftrl.h"
#include "trireme/optim/lamb.h"
#include "trireme/optim/muon.h"
#include "trireme/optim/rmsprop.h"
#include "trireme/optim/sgd.h"

namespace trireme {

namespace {

SgdOptions sgd_options(const OptimizerOptions& o) {
  return {.lr = *o.lr,
          .momentum = *o.momentum,
          .dampening = *o.dampening,
          .weight_decay = *o.weight_decay,
          .nesterov = *o.nesterov};
}

// Of Adam, AdamW and LAMB.
template <class AdamOptions>
AdamOptions adam_options(const OptimizerOptions& o) {
  return {.lr = *o.lr,
          .beta1 = *o.beta1,
          .beta2 = *o.beta2,
          .eps = *o.eps,
          .weight_decay = *o.weight_decay};
}

RmspropOptions rmsprop_options(const OptimizerOptions& o) {
  return {.lr = *o.lr,
          .alpha = *o.alpha,
          .eps = *o.eps,
          .weight_decay = *o.weight_decay,
          .momentum = *o.momentum,
          .centered = *o.centered};
}

AdagradOptions adagrad_options(const OptimizerOptions& o) {
  return {.lr = *o.lr,
          .lr_decay = *o.lr_decay,
          .eps = *o.eps,
          .weight_decay = *o.weight_decay,
          .initial_accumulator = *o.initial_accumulator};
}

MuonOptions muon_options(const OptimizerOptions& o) {
  return {.lr = *o.lr,
          .momentum = *o.momentum,
          .weight_decay = *o.weight_decay,
          .newton_schulz_steps = *o.newton_schulz_steps,
          .adamw_lr_factor = *o.adamw_lr_factor,
          .beta1 = *o.beta1,
          .beta2 = *o.beta2,
          .eps = *o.eps};
}

FtrlOptions ftrl_options(const OptimizerOptions& o) {
  return {.lr = *o.lr, .beta = *o.beta, .l1 = *o.l1, .l2 = *o.l2};
}

// All options of the optimizer are set.
std::unique_ptr<Optimizer> make_without_groups(const OptimizerOptions& o, std::span<Shard> shards) {
  if (o.name == "sgd") return std::make_unique<Sgd>(shards, sgd_options(o));
  if (o.name == "adam") return std::make_unique<Adam>(shards, adam_options<AdamOptions>(o));
  if (o.name == "adamw") return std::make_unique<AdamW>(shards, adam_options<AdamWOptions>(o));
  if (o.name == "lamb") return std::make_unique<Lamb>(shards, adam_options<LambOptions>(o));
  if (o.name == "muon") return std::make_unique<Muon>(shards, muon_options(o));
  if (o.name == "rmsprop") return std::make_unique<Rmsprop>(shards, rmsprop_options(o));
  if (o.name == "adagrad") return std::make_unique<Adagrad>(shards, adagrad_options(o));
  return std::make_unique<Ftrl>(shards, ftrl_options(o));
}

}  // namespace

std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& options,
                                          std::span<Shard> shards) {
  refuse_other_options(options);
  auto optimizer = make_without_groups(with_defaults(options), shards);
  optimizer->set_groups(options.groups);
  return optimizer;
}

}  // namespace trireme
