#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "trireme/optim/parameter_groups.h"

namespace trireme {

/// The options of all optimizers. One that is unset has the default of the optimizer of this name,
/// which is torch's.
struct OptimizerOptions {
  std::string name = "sgd";
  std::optional<double> lr;
  std::optional<double> eps;
  std::optional<double> weight_decay;
  std::optional<double> momentum;
  std::optional<double> dampening;
  std::optional<bool> nesterov;
  std::optional<double> beta1;
  std::optional<double> beta2;
  std::optional<double> alpha;
  std::optional<bool> centered;
  std::optional<double> lr_decay;
  std::optional<double> initial_accumulator;
  std::optional<double> beta;
  std::optional<double> l1;
  std::optional<double> l2;
  std::optional<std::int64_t> newton_schulz_steps;
  std::optional<double> adamw_lr_factor;
  /// Parameters that are updated in another way; prepare_groups() checks them against a model.
  std::vector<ParameterGroup> groups = {};
};

/// An option that an optimizer has.
struct OptimizerOption {
  template <class Value>
  using Field = std::optional<Value> OptimizerOptions::*;

  std::string_view name;  ///< of its field
  std::variant<Field<double>, Field<bool>, Field<std::int64_t>> field;
  std::variant<double, bool, std::int64_t> initial;  ///< its value if it is unset, of the same type
};

/// The names of the optimizers: sgd, adam, adamw, lamb, muon, rmsprop, adagrad, ftrl.
std::span<const std::string> optimizer_names();

/// True for those that update whole parameters only: lamb, muon. Throws UsageError for an unknown
/// name.
bool needs_whole_parameters(std::string_view optimizer);

/// Returns the options of an optimizer. Throws UsageError for an unknown name.
std::span<const OptimizerOption> options_of(std::string_view optimizer);

/// Throws UsageError if an option is set that the optimizer does not have.
void refuse_other_options(const OptimizerOptions& options);

/// Returns `options`, with those that the optimizer does not have unset.
OptimizerOptions without_other_options(OptimizerOptions options);

/// Returns `options`, with every option of the optimizer set: to its default if it was not.
OptimizerOptions with_defaults(OptimizerOptions options);

}  // namespace trireme
