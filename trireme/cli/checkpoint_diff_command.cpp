#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "trireme/base/text.h"
#include "trireme/checkpoint/compare.h"
#include "trireme/cli/checkpoint_command.h"
#include "trireme/cli/terminal.h"
#include "trireme/launch/exit_codes.h"

namespace trireme::cli {

namespace {

using nlohmann::ordered_json;
using Kind = TensorDifference::Kind;

std::string element_of(const TensorDifference& difference) {
  return fmt::format("{}[{}]", shown(difference.name), fmt::join(difference.index, ", "));
}

std::string difference_text(const TensorDifference& difference) {
  switch (difference.kind) {
    case Kind::kValues:
      return fmt::format("{}: {} and {}; {} of {} differ, by at most {:.6g}",
                         element_of(difference), difference.value_a, difference.value_b,
                         with_commas(difference.different),
                         with_commas(difference.elements, "element"), difference.largest);
    case Kind::kTypeOrShape:
      return fmt::format("{}: {} and {}", shown(difference.name), difference.a, difference.b);
    case Kind::kOnlyInA:
      return fmt::format("{}: {}, only in A", shown(difference.name), difference.a);
    case Kind::kOnlyInB:
      return fmt::format("{}: {}, only in B", shown(difference.name), difference.b);
  }
  return "";
}

std::string or_none(const std::string& value) {
  return value.empty() ? "(none)" : value.find('\n') == std::string::npos ? shown(value) : "text";
}

std::ptrdiff_t count_of(const Comparison& result, Kind kind) {
  return std::ranges::count(result.tensor_differences, kind, &TensorDifference::kind);
}

void print_counts(const Comparison& result) {
  if (result.is_equal()) {
    std::cout << fmt::format("equal: {}, {}\n", with_commas(result.tensors, "tensor"),
                             with_commas(result.elements, "element"));
    return;
  }
  std::cout << fmt::format(
      "different: {} of {} in both; {} only in A, {} only in B, {} of another type or shape; {} "
      "beside tensors\n",
      count_of(result, Kind::kValues), with_commas(result.tensors, "tensor"),
      count_of(result, Kind::kOnlyInA), count_of(result, Kind::kOnlyInB),
      count_of(result, Kind::kTypeOrShape), counted(std::ssize(result.state_differences), "value"));
}

void print_comparison(const StoredTensors& a, const StoredTensors& b, const Comparison& result) {
  constexpr std::size_t kShown = 20;
  std::cout << fmt::format("A: {}\nB: {}\n", title_of(a), title_of(b));
  if (result.of_models_alone) {
    std::cout << "compared: the tensors model.NAME of the checkpoint with NAME of the model\n";
  }
  // The first difference of values first: those of names and shapes need no look at values.
  if (const TensorDifference* first = result.first()) std::cout << difference_text(*first) << '\n';
  std::size_t printed = 0;
  for (const TensorDifference& difference : result.tensor_differences) {
    if (&difference == result.first()) continue;
    if (printed++ < kShown) std::cout << difference_text(difference) << '\n';
  }
  if (printed > kShown) std::cout << fmt::format("and {} more\n", printed - kShown);
  for (const StateDifference& difference : result.state_differences) {
    std::cout << fmt::format("{}: {} and {}\n", shown(difference.name), or_none(difference.a),
                             or_none(difference.b));
  }
  if (result.configurations_differ) {
    std::cout << "the configurations differ, which is no difference of the state\n";
  }
  print_counts(result);
}

ordered_json or_null(const std::string& text) {
  return text.empty() ? ordered_json() : ordered_json(text);
}

ordered_json to_json(const TensorDifference& difference) {
  ordered_json json = {{"name", difference.name},
                       {"difference", name_of(difference.kind)},
                       {"a", or_null(difference.a)},
                       {"b", or_null(difference.b)}};
  if (difference.kind != Kind::kValues) return json;
  json["index"] = difference.index;
  json["value_a"] = difference.value_a;
  json["value_b"] = difference.value_b;
  json["elements"] = difference.elements;
  json["different"] = difference.different;
  // Infinity is no JSON.
  json["largest"] = std::isfinite(difference.largest) ? ordered_json(difference.largest)
                                                      : ordered_json("infinite");
  return json;
}

ordered_json to_json(const StoredTensors& a, const StoredTensors& b, const Comparison& result) {
  ordered_json json = {{"a", a.path().string()},
                       {"b", b.path().string()},
                       {"equal", result.is_equal()},
                       {"models_alone", result.of_models_alone},
                       {"tensors", result.tensors},
                       {"elements", result.elements},
                       {"first", ordered_json()},
                       {"tensor_differences", ordered_json::array()},
                       {"state_differences", ordered_json::array()},
                       {"configurations_differ", result.configurations_differ}};
  if (result.first() != nullptr) json["first"] = to_json(*result.first());
  for (const TensorDifference& difference : result.tensor_differences) {
    json["tensor_differences"].push_back(to_json(difference));
  }
  for (const StateDifference& difference : result.state_differences) {
    json["state_differences"].push_back(
        {{"name", difference.name}, {"a", or_null(difference.a)}, {"b", or_null(difference.b)}});
  }
  return json;
}

}  // namespace

void add_checkpoint_diff(CLI::App& checkpoint, int& exit_code) {
  struct Arguments {
    std::string a, b;
    std::optional<double> tolerance;
    bool json = false;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = checkpoint.add_subcommand(
      "diff", "Compare two checkpoints or models, whatever their layouts; exit code 6: different");
  command->add_option("A", arguments->a, kCheckpointPath)->required();
  command->add_option("B", arguments->b, "the same")->required();
  command->add_option("--tolerance", arguments->tolerance,
                      "largest |a - b| of values that are taken for equal; without it, their bits "
                      "must be");
  command->add_flag("--json", arguments->json, "as JSON");
  command->callback([arguments, &exit_code] {
    StoredTensors a(arguments->a), b(arguments->b);
    const Comparison result = compare(a, b, arguments->tolerance);
    if (arguments->json) {
      std::cout << json_text(to_json(a, b, result));
    } else {
      print_comparison(a, b, result);
    }
    exit_code = static_cast<int>(result.is_equal() ? ExitCode::kOk : ExitCode::kDifferent);
  });
}

}  // namespace trireme::cli
