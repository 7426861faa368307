#include "trireme/config/schema/rules.h"
#include "trireme/config/schema/sections.h"

namespace trireme {

namespace {

// More groups than a person writes by hand.
constexpr std::size_t kMaxGroups = 1000;

ConfigKey::Rule few_groups() {
  return [](const ConfigKey::Target& value) -> std::optional<std::string> {
    if (std::get<ConfigKey::Groups*>(value)->size() <= kMaxGroups) return std::nullopt;
    return "a list of at most 1000 groups";
  };
}

}  // namespace

void add_keys(std::vector<ConfigKey>& keys, Config::Optimizer& c) {
  const std::vector<std::string> adams = {"adam", "adamw", "lamb", "muon"};
  const KeyAdder add{keys, "optimizer."};
  add("name", &c.name, "the update rule; muon: for hidden matrices, and adamw for the rest",
      one_of({"sgd", "adam", "adamw", "lamb", "muon", "rmsprop", "adagrad", "ftrl"}));
  add("lr", &c.lr, "learning rate", positive());
  add("momentum", &c.momentum, "decay of the momentum buffer; 0: no momentum; muon: 0.95",
      fraction())
      .used_with("optimizer.name", {"sgd", "rmsprop", "muon"});
  add("dampening", &c.dampening, "fraction of the gradient that does not enter the momentum",
      fraction())
      .used_with("optimizer.name", {"sgd"});
  add("nesterov", &c.nesterov, "Nesterov's momentum", anything())
      .used_with("optimizer.name", {"sgd"});
  add("weight_decay", &c.weight_decay,
      "L2 penalty; adamw, muon: decoupled from the gradient; lamb: added to its direction",
      not_negative())
      .used_unless("optimizer.name", {"ftrl"});
  add("betas", &c.betas, "decay of the first and the second moment; muon: of its adamw", betas())
      .used_with("optimizer.name", adams);
  add("eps", &c.eps, "added to the denominator; 0: the optimizer's own default", not_negative())
      .used_with("optimizer.name", {"adam", "adamw", "lamb", "muon", "rmsprop", "adagrad"});
  add("alpha", &c.alpha, "decay of the mean square", fraction())
      .used_with("optimizer.name", {"rmsprop"});
  add("centered", &c.centered, "divide by the variance", anything())
      .used_with("optimizer.name", {"rmsprop"});
  add("lr_decay", &c.lr_decay, "decay of the learning rate", not_negative())
      .used_with("optimizer.name", {"adagrad"});
  add("initial_accumulator", &c.initial_accumulator, "initial value of the sum of squares",
      not_negative())
      .used_with("optimizer.name", {"adagrad"});
  add("beta", &c.beta, "added to the root of the sum of squares", not_negative())
      .used_with("optimizer.name", {"ftrl"});
  add("l1", &c.l1, "strength of the L1 norm, which makes weights zero", not_negative())
      .used_with("optimizer.name", {"ftrl"});
  add("l2", &c.l2, "strength of the squared L2 norm", not_negative())
      .used_with("optimizer.name", {"ftrl"});
  add("newton_schulz_steps", &c.newton_schulz_steps, "iterations that orthogonalize an update",
      positive_up_to(100))
      .used_with("optimizer.name", {"muon"});
  add("adamw_lr_factor", &c.adamw_lr_factor,
      "learning rate of the parameters that adamw updates / learning rate", not_negative())
      .used_with("optimizer.name", {"muon"});
  add("groups", &c.groups,
      "parameters that are updated in another way; the first group that matches a parameter wins",
      few_groups());
}

void add_keys(std::vector<ConfigKey>& keys, Config::Optimizer::Group& c) {
  const KeyAdder add{keys, ""};
  add("match", &c.match,
      "pattern on the names of parameters, in which * stands for any text and ? for any character; "
      "empty: every name",
      anything());
  add("kind", &c.kind, "empty: every kind; matrix: output and hidden",
      one_of({"", "bias", "norm", "bias_and_norm", "bias_norm_and_embedding", "embedding", "output",
              "hidden", "matrix"}));
  add("rule", &c.rule, "empty: muon for hidden parameters, adamw for the others",
      one_of({"", "muon", "adamw"}))
      .used_with("optimizer.name", {"muon"});
  add("lr_factor", &c.lr_factor, "learning rate of the group / that without the group",
      not_negative());
  add("weight_decay", &c.weight_decay, "weight decay of the group; by default the optimizer's",
      not_negative())
      .used_unless("optimizer.name", {"ftrl"});
  add("betas", &c.betas, "betas of the group; by default the optimizer's", betas())
      .used_with("optimizer.name", {"adam", "adamw", "lamb", "muon"});
  add("trainable", &c.trainable, "false: the parameters keep their initial values", anything());
}

}  // namespace trireme
