#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trireme {

/// Parameters with options of their own. The first group that matches a parameter wins; a parameter
/// that no group matches has the optimizer's options.
///
///     OptimizerOptions options{.name = "adamw", .weight_decay = 0.1};
///     options.groups = {{.kind = "bias_and_norm", .weight_decay = 0}};
struct ParameterGroup {
  /// Pattern on the name: * stands for any text, ? for any character, \ before a character for that
  /// character. Empty: every name.
  std::string match;
  /// "bias", "norm", "embedding", "output" or "hidden", see kind_of(); or several of them:
  /// "bias_and_norm", "bias_norm_and_embedding", "matrix" (output and hidden). Empty: every kind.
  std::string kind;
  /// "muon" or "adamw", for the optimizer muon. Empty: muon for hidden parameters, adamw for
  /// others.
  std::string rule = {};
  double lr_factor = 1;                        ///< learning rate / that without the group
  std::optional<double> weight_decay;          ///< unset: the optimizer's
  std::optional<std::array<double, 2>> betas;  ///< unset: the optimizer's
  bool trainable = true;                       ///< false: the parameters keep their values
};

/// A parameter as groups see it.
struct ParameterInfo {
  std::string name;
  std::vector<std::int64_t> shape;
};

/// Returns the kind of a parameter:
/// - "bias": the last part of the name is bias or has bias at one end ("fc1.bias", "bias_hh_l0");
/// - "norm": any other parameter of at most one dimension (the weight of a normalization layer);
/// - "embedding": a part of the name contains embed, or is wte or wpe;
/// - "output": the layer is called lm_head, or is a layer of the model itself and called head,
///   output, classifier or score;
/// - "hidden": all others.
std::string_view kind_of(const ParameterInfo& parameter);

/// Returns the first group that matches, or null.
const ParameterGroup* group_of(std::span<const ParameterGroup> groups,
                               const ParameterInfo& parameter);

/// Throws UsageError unless each group has possible values and matches one of `parameters`. The
/// error names near names.
void check_groups(std::span<const ParameterGroup> groups,
                  std::span<const ParameterInfo> parameters);

/// Throws UsageError for an unknown kind or a number out of range.
void check_values(std::span<const ParameterGroup> groups);

/// Returns groups that match the same of `parameters` by name alone, for a reader that knows no
/// shapes.
std::vector<ParameterGroup> groups_by_name(std::span<const ParameterGroup> groups,
                                           std::span<const ParameterInfo> parameters);

}  // namespace trireme
