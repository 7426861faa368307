#include "trireme/optim/make_optimizer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "trireme/base/error.h"
#include "trireme/base/text.h"
#include "trireme/optim/adagrad.h"
#include "trireme/optim/adam.h"
#include "trireme/optim/ftrl.h"
#include "trireme/optim/rmsprop.h"
#include "trireme/optim/sgd.h"

namespace trireme {

namespace {

// Sets the options that every optimizer has; an unset option keeps the default.
template <class Options>
void set_common(Options& to, const OptimizerOptions& from) {
  to.lr = from.lr.value_or(to.lr);
  to.weight_decay = from.weight_decay.value_or(to.weight_decay);
}

SgdOptions sgd_options(const OptimizerOptions& from) {
  SgdOptions to{.momentum = from.momentum, .dampening = from.dampening, .nesterov = from.nesterov};
  set_common(to, from);
  return to;
}

template <class Options>
Options adam_options(const OptimizerOptions& from) {
  Options to{.beta1 = from.beta1, .beta2 = from.beta2};
  set_common(to, from);
  to.eps = from.eps.value_or(to.eps);
  return to;
}

RmspropOptions rmsprop_options(const OptimizerOptions& from) {
  RmspropOptions to{.alpha = from.alpha, .momentum = from.momentum, .centered = from.centered};
  set_common(to, from);
  to.eps = from.eps.value_or(to.eps);
  return to;
}

AdagradOptions adagrad_options(const OptimizerOptions& from) {
  AdagradOptions to{.lr_decay = from.lr_decay, .initial_accumulator = from.initial_accumulator};
  set_common(to, from);
  to.eps = from.eps.value_or(to.eps);
  return to;
}

std::unique_ptr<Optimizer> make_without_groups(const OptimizerOptions& options,
                                               std::span<Shard> shards) {
  const std::string& name = options.name;
  if (name == "sgd") return std::make_unique<Sgd>(shards, sgd_options(options));
  if (name == "adam") return std::make_unique<Adam>(shards, adam_options<AdamOptions>(options));
  if (name == "adamw") return std::make_unique<AdamW>(shards, adam_options<AdamWOptions>(options));
  if (name == "rmsprop") return std::make_unique<Rmsprop>(shards, rmsprop_options(options));
  if (name == "adagrad") return std::make_unique<Adagrad>(shards, adagrad_options(options));
  if (name == "ftrl") {
    return std::make_unique<Ftrl>(shards, FtrlOptions{.lr = options.lr.value_or(FtrlOptions().lr),
                                                      .beta = options.beta,
                                                      .l1 = options.l1,
                                                      .l2 = options.l2});
  }

  const std::string meant = nearest(name, optimizer_names());
  throw UsageError(fmt::format("optimizer must be one of {}, got \"{}\"{}",
                               fmt::join(optimizer_names(), ", "), name,
                               meant.empty() ? "" : fmt::format("; did you mean \"{}\"?", meant)));
}

}  // namespace

std::span<const std::string> optimizer_names() {
  static const std::string names[] = {"sgd", "adam", "adamw", "rmsprop", "adagrad", "ftrl"};
  return names;
}

std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& options,
                                          std::span<Shard> shards) {
  auto optimizer = make_without_groups(options, shards);
  optimizer->set_groups(options.groups);
  return optimizer;
}

}  // namespace trireme
