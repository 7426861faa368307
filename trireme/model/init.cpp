#include "trireme/model/init.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/random.h"
#include "trireme/model/orthogonal.h"

namespace trireme {

namespace {

struct Fan {
  std::int64_t in = 0;
  std::int64_t out = 0;
};

struct Draw {
  CounterRandom random;
  Fan fan;
  double gain = 1;
};

Fan fan_of(const at::Tensor& weight) {
  return {weight.numel() / weight.size(0), weight.numel() / weight.size(1)};
}

// The stream of random numbers of a parameter: FNV-1a (Fowler, Noll, Vo) of its name.
std::uint64_t stream_of(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char c : name) hash = (hash ^ c) * 0x100000001b3;
  return hash;
}

void fill_uniform(std::vector<double>& values, const CounterRandom& random, double bound) {
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = bound * (2 * random.uniform(i) - 1);
}

void fill_normal(std::vector<double>& values, const CounterRandom& random, double deviation) {
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = deviation * random.normal(i);
}

using Rule = void (*)(const Draw&, std::vector<double>&);

struct NamedRule {
  std::string_view name;
  Rule fill;
};

constexpr NamedRule kRules[] = {
    {"default",
     [](const Draw& draw, std::vector<double>& weight) {
       fill_uniform(weight, draw.random, 1 / std::sqrt(draw.fan.in));
     }},
    {"xavier_uniform",
     [](const Draw& draw, std::vector<double>& weight) {
       fill_uniform(weight, draw.random,
                    draw.gain * std::sqrt(6.0 / static_cast<double>(draw.fan.in + draw.fan.out)));
     }},
    {"xavier_normal",
     [](const Draw& draw, std::vector<double>& weight) {
       fill_normal(weight, draw.random,
                   draw.gain * std::sqrt(2.0 / static_cast<double>(draw.fan.in + draw.fan.out)));
     }},
    {"kaiming_uniform",
     [](const Draw& draw, std::vector<double>& weight) {
       fill_uniform(weight, draw.random,
                    draw.gain * std::sqrt(3.0 / static_cast<double>(draw.fan.in)));
     }},
    {"kaiming_normal",
     [](const Draw& draw, std::vector<double>& weight) {
       fill_normal(weight, draw.random, draw.gain / std::sqrt(draw.fan.in));
     }},
    {"orthogonal",
     [](const Draw& draw, std::vector<double>& weight) {
       fill_normal(weight, draw.random, 1);
       orthogonalize(weight, static_cast<std::int64_t>(weight.size()) / draw.fan.in, draw.gain);
     }},
    {"zero",
     [](const Draw&, std::vector<double>& weight) { std::fill(weight.begin(), weight.end(), 0); }},
};

const NamedRule& rule_named(std::string_view name) {
  const auto* rule = std::find_if(std::begin(kRules), std::end(kRules),
                                  [&](const NamedRule& r) { return r.name == name; });
  if (rule != std::end(kRules)) return *rule;
  std::vector<std::string_view> names;
  for (const NamedRule& known : kRules) names.push_back(known.name);
  throw UsageError(
      fmt::format("model.init must be one of {}; got \"{}\"", fmt::join(names, ", "), name));
}

bool is_bias(const NamedTensor& parameter) {
  return parameter.second.dim() == 1 && parameter.first.ends_with("bias");
}

// "fc1.bias" lies beside "fc1.weight", or, where a model has nothing but a name, nowhere.
std::optional<Fan> fan_beside(const NamedTensors& model, std::string_view bias) {
  const std::string weight = std::string(bias.substr(0, bias.size() - 4)) + "weight";
  for (const auto& [name, tensor] : model.parameters) {
    if (name == weight && tensor.dim() >= 2) return fan_of(tensor);
  }
  return std::nullopt;
}

void assign(const at::Tensor& parameter, std::vector<double>& values) {
  const at::NoGradGuard no_grad;
  parameter.copy_(tensor_over(buffer_of(std::span(values)), parameter.sizes()));
}

}  // namespace

void set_normal(const at::Tensor& tensor, std::string_view name, double deviation,
                std::uint64_t seed) {
  std::vector<double> values(static_cast<std::size_t>(tensor.numel()));
  fill_normal(values, CounterRandom(seed, stream_of(name)), deviation);
  assign(tensor, values);
}

void initialize(const NamedTensors& model, std::string_view name, std::uint64_t seed,
                std::string_view activation) {
  const NamedRule& rule = rule_named(name);
  const double gain = gain_of(activation);
  for (const NamedTensor& parameter : model.parameters) {
    const auto& [parameter_name, tensor] = parameter;
    std::optional<Fan> fan;
    if (tensor.dim() >= 2) {
      fan = fan_of(tensor);
    } else if (!is_bias(parameter)) {
      continue;
    } else if (name == "default") {
      fan = fan_beside(model, parameter_name);
      if (!fan) continue;
    }
    std::vector<double> values(static_cast<std::size_t>(tensor.numel()));
    if (fan) rule.fill({CounterRandom(seed, stream_of(parameter_name)), *fan, gain}, values);
    assign(tensor, values);
  }
}

double gain_of(std::string_view activation) {
  if (activation == "linear" || activation == "sigmoid") return 1;
  if (activation == "tanh") return 5.0 / 3;
  if (activation == "relu" || activation == "gelu") return std::sqrt(2.0);
  throw UsageError(fmt::format(
      "activation must be one of linear, sigmoid, tanh, relu, gelu; got \"{}\"", activation));
}

}  // namespace trireme
