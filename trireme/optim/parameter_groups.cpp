#include "trireme/optim/parameter_groups.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "trireme/base/error.h"
#include "trireme/base/pattern.h"
#include "trireme/base/text.h"
#include "trireme/optim/requirements.h"

namespace trireme {

namespace {

constexpr const char* kKinds[] = {"bias",      "norm",   "bias_and_norm", "bias_norm_and_embedding",
                                  "embedding", "output", "hidden",        "matrix"};
constexpr const char* kRules[] = {"", "muon", "adamw"};

bool is_known_kind(std::string_view kind) {
  return kind.empty() || std::ranges::find(kKinds, kind) != std::end(kKinds);
}

bool is_bias(std::string_view name) {
  const std::string_view last = name.substr(name.rfind('.') + 1);
  return last == "bias" || last.starts_with("bias_") || last.ends_with("_bias");
}

bool is_embedding(std::string_view name) {
  while (!name.empty()) {
    const std::string_view part = name.substr(0, name.find('.'));
    if (part.find("embed") != part.npos || part == "wte" || part == "wpe") return true;
    name.remove_prefix(std::min(name.size(), part.size() + 1));
  }
  return false;
}

bool is_output(std::string_view name) {
  const std::string_view layer = name.substr(0, name.rfind('.'));
  if (layer.substr(layer.rfind('.') + 1) == "lm_head") return true;
  return layer == "head" || layer == "output" || layer == "classifier" || layer == "score";
}

bool has_kind(std::string_view kind, const ParameterInfo& parameter) {
  if (kind.empty()) return true;
  const std::string_view mine = kind_of(parameter);
  const bool is_vector = mine == "bias" || mine == "norm";
  if (kind == "bias_and_norm") return is_vector;
  if (kind == "bias_norm_and_embedding") return is_vector || mine == "embedding";
  if (kind == "matrix") return mine == "output" || mine == "hidden";
  return mine == kind;
}

bool matches(const ParameterGroup& group, const ParameterInfo& parameter) {
  return (group.match.empty() || matches_pattern(parameter.name, group.match)) &&
         has_kind(group.kind, parameter);
}

std::string pattern_of_name(std::string_view name) {
  std::string pattern;
  for (const char c : name) {
    if (c == '*' || c == '?' || c == '\\') pattern += '\\';
    pattern += c;
  }
  return pattern;
}

// Names of parameters or kinds that a group without a match may have meant.
std::string hint(const ParameterGroup& group, std::span<const ParameterInfo> parameters) {
  std::vector<std::string> names;
  std::set<std::string_view> kinds;
  bool is_name_known = group.match.empty();
  for (const ParameterInfo& parameter : parameters) {
    names.push_back(parameter.name);
    kinds.insert(kind_of(parameter));
    is_name_known = is_name_known || matches_pattern(parameter.name, group.match);
  }
  if (is_name_known) return fmt::format("the kinds of the model are {}", fmt::join(kinds, ", "));
  const std::string guess = nearest(group.match, names);
  if (!guess.empty()) return fmt::format("did you mean \"{}\"?", guess);
  constexpr std::size_t kShown = 8;
  const bool are_all = names.size() <= kShown;
  names.resize(std::min(names.size(), kShown));
  return fmt::format("the names of the model are {}{}", fmt::join(names, ", "),
                     are_all ? "" : ", ...");
}

}  // namespace

std::string_view kind_of(const ParameterInfo& parameter) {
  if (is_bias(parameter.name)) return "bias";
  if (parameter.shape.size() <= 1) return "norm";
  if (is_embedding(parameter.name)) return "embedding";
  return is_output(parameter.name) ? "output" : "hidden";
}

const ParameterGroup* group_of(std::span<const ParameterGroup> groups,
                               const ParameterInfo& parameter) {
  const auto group = std::ranges::find_if(
      groups, [&](const ParameterGroup& one) { return matches(one, parameter); });
  return group == groups.end() ? nullptr : &*group;
}

void check_values(std::span<const ParameterGroup> groups) {
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const ParameterGroup& group = groups[i];
    const std::string who = fmt::format("optimizer.groups[{}]", i);
    if (!is_known_kind(group.kind)) {
      throw UsageError(fmt::format("{}: kind must be one of {}, got \"{}\"", who,
                                   fmt::join(kKinds, ", "), group.kind));
    }
    if (std::ranges::find(kRules, group.rule) == std::end(kRules)) {
      throw UsageError(fmt::format("{}: rule must be muon or adamw, got \"{}\"", who, group.rule));
    }
    require_not_negative(who, "lr_factor", group.lr_factor);
    if (group.weight_decay) require_not_negative(who, "weight_decay", *group.weight_decay);
    if (!group.betas) continue;
    for (const double beta : *group.betas) require_fraction(who, "betas", beta);
  }
}

void check_groups(std::span<const ParameterGroup> groups,
                  std::span<const ParameterInfo> parameters) {
  check_values(groups);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const bool is_matched = std::ranges::any_of(
        parameters, [&](const ParameterInfo& parameter) { return matches(groups[i], parameter); });
    if (is_matched) continue;
    throw UsageError(fmt::format(
        "optimizer.groups[{}]: no parameter has match = \"{}\"{}; {}", i, groups[i].match,
        groups[i].kind.empty() ? "" : fmt::format(" and kind = \"{}\"", groups[i].kind),
        hint(groups[i], parameters)));
  }
}

std::vector<ParameterGroup> groups_by_name(std::span<const ParameterGroup> groups,
                                           std::span<const ParameterInfo> parameters) {
  std::vector<ParameterGroup> named;
  for (const ParameterInfo& parameter : parameters) {
    const ParameterGroup* group = group_of(groups, parameter);
    if (group == nullptr) continue;
    named.push_back(*group);
    named.back().match = pattern_of_name(parameter.name);
    named.back().kind.clear();
  }
  return named;
}

}  // namespace trireme
