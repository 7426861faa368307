#include "trireme/optim/optimizer_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <type_traits>

#include "trireme/base/error.h"
#include "trireme/base/text.h"
#include "trireme/optim/adagrad.h"
#include "trireme/optim/adam.h"
#include "trireme/optim/ftrl.h"
#include "trireme/optim/lamb.h"
#include "trireme/optim/muon.h"
#include "trireme/optim/rmsprop.h"
#include "trireme/optim/sgd.h"

namespace trireme {

namespace {

using O = OptimizerOptions;
using Options = std::vector<OptimizerOption>;

Options sgd() {
  const SgdOptions initial;
  return {{"lr", &O::lr, initial.lr},
          {"weight_decay", &O::weight_decay, initial.weight_decay},
          {"momentum", &O::momentum, initial.momentum},
          {"dampening", &O::dampening, initial.dampening},
          {"nesterov", &O::nesterov, initial.nesterov}};
}

// Of Adam, AdamW and LAMB.
template <class AdamOptions>
Options adam() {
  const AdamOptions initial;
  return {{"lr", &O::lr, initial.lr},
          {"weight_decay", &O::weight_decay, initial.weight_decay},
          {"beta1", &O::beta1, initial.beta1},
          {"beta2", &O::beta2, initial.beta2},
          {"eps", &O::eps, initial.eps}};
}

Options muon() {
  const MuonOptions initial;
  return {{"lr", &O::lr, initial.lr},
          {"weight_decay", &O::weight_decay, initial.weight_decay},
          {"momentum", &O::momentum, initial.momentum},
          {"newton_schulz_steps", &O::newton_schulz_steps, initial.newton_schulz_steps},
          {"adamw_lr_factor", &O::adamw_lr_factor, initial.adamw_lr_factor},
          {"beta1", &O::beta1, initial.beta1},
          {"beta2", &O::beta2, initial.beta2},
          {"eps", &O::eps, initial.eps}};
}

Options rmsprop() {
  const RmspropOptions initial;
  return {{"lr", &O::lr, initial.lr},
          {"weight_decay", &O::weight_decay, initial.weight_decay},
          {"alpha", &O::alpha, initial.alpha},
          {"momentum", &O::momentum, initial.momentum},
          {"centered", &O::centered, initial.centered},
          {"eps", &O::eps, initial.eps}};
}

Options adagrad() {
  const AdagradOptions initial;
  return {{"lr", &O::lr, initial.lr},
          {"weight_decay", &O::weight_decay, initial.weight_decay},
          {"lr_decay", &O::lr_decay, initial.lr_decay},
          {"initial_accumulator", &O::initial_accumulator, initial.initial_accumulator},
          {"eps", &O::eps, initial.eps}};
}

Options ftrl() {
  const FtrlOptions initial;
  return {{"lr", &O::lr, initial.lr},
          {"beta", &O::beta, initial.beta},
          {"l1", &O::l1, initial.l1},
          {"l2", &O::l2, initial.l2}};
}

// In the order of optimizer_names().
std::span<const Options> tables() {
  static const Options tables[] = {sgd(),
                                   adam<AdamOptions>(),
                                   adam<AdamWOptions>(),
                                   adam<LambOptions>(),
                                   muon(),
                                   rmsprop(),
                                   adagrad(),
                                   ftrl()};
  return tables;
}

bool has(std::span<const OptimizerOption> options, std::string_view name) {
  return std::ranges::any_of(options,
                             [&](const OptimizerOption& option) { return option.name == name; });
}

// The options of other optimizers, some of them several times.
Options other_options(std::string_view optimizer) {
  const auto own = options_of(optimizer);
  Options others;
  for (const Options& table : tables()) {
    std::ranges::copy_if(table, std::back_inserter(others),
                         [&](const OptimizerOption& option) { return !has(own, option.name); });
  }
  return others;
}

std::vector<std::string_view> names_of(std::span<const OptimizerOption> options) {
  std::vector<std::string_view> names;
  for (const OptimizerOption& option : options) names.push_back(option.name);
  return names;
}

}  // namespace

std::span<const std::string> optimizer_names() {
  static const std::string names[] = {"sgd",  "adam",    "adamw",   "lamb",
                                      "muon", "rmsprop", "adagrad", "ftrl"};
  return names;
}

bool needs_whole_parameters(std::string_view optimizer) {
  options_of(optimizer);
  return optimizer == "lamb" || optimizer == "muon";
}

std::span<const OptimizerOption> options_of(std::string_view optimizer) {
  const auto names = optimizer_names();
  const auto found = std::ranges::find(names, optimizer);
  if (found != names.end()) return tables()[static_cast<std::size_t>(found - names.begin())];
  const std::string meant = nearest(optimizer, names);
  throw UsageError(fmt::format("optimizer must be one of {}, got \"{}\"{}", fmt::join(names, ", "),
                               optimizer,
                               meant.empty() ? "" : fmt::format("; did you mean \"{}\"?", meant)));
}

void refuse_other_options(const OptimizerOptions& options) {
  for (const OptimizerOption& other : other_options(options.name)) {
    const bool is_set =
        std::visit([&](auto field) { return (options.*field).has_value(); }, other.field);
    if (!is_set) continue;
    throw UsageError(fmt::format("optimizer {} has no option {}; it has {}", options.name,
                                 other.name, fmt::join(names_of(options_of(options.name)), ", ")));
  }
}

OptimizerOptions without_other_options(OptimizerOptions options) {
  for (const OptimizerOption& other : other_options(options.name)) {
    std::visit([&](auto field) { (options.*field).reset(); }, other.field);
  }
  return options;
}

OptimizerOptions with_defaults(OptimizerOptions options) {
  for (const OptimizerOption& own : options_of(options.name)) {
    std::visit(
        [&](auto field) {
          auto& value = options.*field;
          using Value = typename std::decay_t<decltype(value)>::value_type;
          if (!value) value = std::get<Value>(own.initial);
        },
        own.field);
  }
  return options;
}

}  // namespace trireme
