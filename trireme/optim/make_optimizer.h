#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "trireme/optim/optimizer.h"

namespace trireme {

/// The options of an optimizer by name. An option that this optimizer does not have is ignored; an
/// option that is unset has the optimizer's default, which is torch's.
struct OptimizerOptions {
  std::string name = "sgd";
  std::optional<double> lr;
  std::optional<double> eps;
  std::optional<double> weight_decay;
  double momentum = 0;
  double dampening = 0;
  bool nesterov = false;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double alpha = 0.99;
  bool centered = false;
  double lr_decay = 0;
  double initial_accumulator = 0;
  double beta = 1;
  double l1 = 0;
  double l2 = 0;
  /// Parameters that are updated in another way; prepare_groups() checks them against a model.
  std::vector<ParameterGroup> groups = {};
};

/// The names that make_optimizer() knows: sgd, adam, adamw, rmsprop, adagrad, ftrl.
std::span<const std::string> optimizer_names();

/// Makes an optimizer by name. Throws UsageError for an unknown name or an impossible option.
std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& options, std::span<Shard> shards);

}  // namespace trireme
