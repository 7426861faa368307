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

// The functions below set the elements from `begin` on of a parameter.

void fill_uniform(std::span<double> values, std::int64_t begin, const CounterRandom& random,
                  double bound) {
  for (double& value : values) {
    value = bound * (2 * random.uniform(static_cast<std::uint64_t>(begin++)) - 1);
  }
}

void fill_normal(std::span<double> values, std::int64_t begin, const CounterRandom& random,
                 double deviation) {
  for (double& value : values) {
    value = deviation * random.normal(static_cast<std::uint64_t>(begin++));
  }
}

using Rule = void (*)(const Draw&, std::int64_t begin, std::span<double>);

struct NamedRule {
  std::string_view name;
  Rule fill;
  bool needs_whole = false;  // the elements of a parameter depend on each other
};

constexpr NamedRule kRules[] = {
    {"default",
     [](const Draw& draw, std::int64_t begin, std::span<double> weight) {
       fill_uniform(weight, begin, draw.random, 1 / std::sqrt(draw.fan.in));
     }},
    {"xavier_uniform",
     [](const Draw& draw, std::int64_t begin, std::span<double> weight) {
       fill_uniform(weight, begin, draw.random,
                    draw.gain * std::sqrt(6.0 / static_cast<double>(draw.fan.in + draw.fan.out)));
     }},
    {"xavier_normal",
     [](const Draw& draw, std::int64_t begin, std::span<double> weight) {
       fill_normal(weight, begin, draw.random,
                   draw.gain * std::sqrt(2.0 / static_cast<double>(draw.fan.in + draw.fan.out)));
     }},
    {"kaiming_uniform",
     [](const Draw& draw, std::int64_t begin, std::span<double> weight) {
       fill_uniform(weight, begin, draw.random,
                    draw.gain * std::sqrt(3.0 / static_cast<double>(draw.fan.in)));
     }},
    {"kaiming_normal",
     [](const Draw& draw, std::int64_t begin, std::span<double> weight) {
       fill_normal(weight, begin, draw.random, draw.gain / std::sqrt(draw.fan.in));
     }},
    {"orthogonal",
     [](const Draw& draw, std::int64_t begin, std::span<double> weight) {
       fill_normal(weight, begin, draw.random, 1);
       orthogonalize(weight, static_cast<std::int64_t>(weight.size()) / draw.fan.in, draw.gain);
     },
     true},
    {"zero",
     [](const Draw&, std::int64_t, std::span<double> weight) { std::ranges::fill(weight, 0); }},
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

// Elements that are drawn at once: beside the parameter there is no second one.
constexpr std::int64_t kChunk = std::int64_t{1} << 14;

// `fill(begin, values)`: the elements from `begin` on, `chunk` of them at most.
template <class Fill>
void assign(const at::Tensor& parameter, std::int64_t chunk, const Fill& fill) {
  const at::NoGradGuard no_grad;
  const at::Tensor whole =
      parameter.is_contiguous() ? parameter : at::empty(parameter.sizes(), parameter.options());
  const at::Tensor elements = whole.view(-1);
  std::vector<double> values;
  for (std::int64_t begin = 0; begin < elements.numel(); begin += chunk) {
    values.resize(static_cast<std::size_t>(std::min(chunk, elements.numel() - begin)));
    fill(begin, std::span(values));
    const Buffer drawn = buffer_of(std::span(values));
    elements.narrow(0, begin, drawn.count).copy_(tensor_over(drawn, drawn.count));
  }
  if (!whole.is_same(parameter)) parameter.copy_(whole);
}

}  // namespace

void initialize(const NamedTensors& model, const InitialValues& values) {
  for (const NamedTensor& parameter : model.parameters) values(parameter);
}

void set_normal(const at::Tensor& tensor, std::string_view name, double deviation,
                std::uint64_t seed) {
  const CounterRandom random(seed, stream_of(name));
  assign(tensor, kChunk, [&](std::int64_t begin, std::span<double> values) {
    fill_normal(values, begin, random, deviation);
  });
}

InitialValues initial_values(const NamedTensors& model, std::string_view name, std::uint64_t seed,
                             std::string_view activation) {
  const NamedRule& rule = rule_named(name);
  const double gain = gain_of(activation);
  const bool draws_biases = name == "default";
  return [model, &rule, gain, seed, draws_biases](const NamedTensor& parameter) {
    const auto& [parameter_name, tensor] = parameter;
    if (tensor.dim() < 2 && !is_bias(parameter)) return;
    std::optional<Fan> fan;
    if (tensor.dim() >= 2) {
      fan = fan_of(tensor);
    } else if (draws_biases) {
      fan = fan_beside(model, parameter_name);
      if (!fan) return;
    }
    if (!fan) {
      const at::NoGradGuard no_grad;
      tensor.fill_(0);
      return;
    }
    const Draw draw{CounterRandom(seed, stream_of(parameter_name)), *fan, gain};
    assign(tensor, rule.needs_whole ? std::max<std::int64_t>(1, tensor.numel()) : kChunk,
           [&](std::int64_t begin, std::span<double> values) { rule.fill(draw, begin, values); });
  };
}

void initialize(const NamedTensors& model, std::string_view name, std::uint64_t seed,
                std::string_view activation) {
  initialize(model, initial_values(model, name, seed, activation));
}

double gain_of(std::string_view activation) {
  if (activation == "linear" || activation == "sigmoid") return 1;
  if (activation == "tanh") return 5.0 / 3;
  if (activation == "relu" || activation == "gelu") return std::sqrt(2.0);
  throw UsageError(fmt::format(
      "activation must be one of linear, sigmoid, tanh, relu, gelu; got \"{}\"", activation));
}

}  // namespace trireme
