#include "trireme/train/step_values.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <utility>

#include "trireme/base/runs.h"
#include "trireme/kernels/reduce.h"
#include "trireme/model/model.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

namespace {

StepValue number(const char* kind, const double& value) {
  return {.kind = kind,
          .name = "",
          .region = Region(),
          .values = {const_cast<double*>(&value), 1, DType::kF64}};
}

StepValue whole(const char* kind, const NamedTensor& named) {
  const at::Tensor stored = stored_view(named.second.detach().contiguous());
  return {.kind = kind,
          .name = named.first,
          .region = Region(stored.sizes().vec()),
          .values = host_buffer_of(stored),
          .owner = stored};
}

void append_gradients(std::span<const Shard> shards, std::vector<StepValue>& values) {
  for (const Shard& shard : shards) {
    values.push_back({.kind = "gradient",
                      .name = shard.name,
                      .region = shard.region,
                      .values = {nullptr, shard.values.count, shard.values.dtype},
                      .shard = &shard});
  }
}

// True if the elements of `shard` lie in `tensor` where its region says.
bool lies_in(const Shard& shard, const StepValue& tensor) {
  const auto runs = runs_of(shard.region);
  const auto run = *runs.begin();
  return run.count == shard.values.count &&
         tensor.values.slice(run.full, run.count).data == shard.values.data;
}

// A rank without the parameters has its shards, and those that are not trained.
std::vector<NamedTensor> parameters_of(const Strategy& strategy) {
  const NamedTensors tensors = strategy.model().tensors();
  if (strategy.holds_parameters()) return tensors.parameters;
  std::vector<NamedTensor> fixed = strategy.fixed_tensors();
  std::erase_if(fixed, [&](const NamedTensor& tensor) {
    return std::ranges::count(tensors.buffers, tensor.first, &NamedTensor::first) > 0;
  });
  return fixed;
}

void append_parameters(const Strategy& strategy, std::vector<StepValue>& values) {
  std::map<std::string, StepValue> of_model;
  for (const NamedTensor& named : parameters_of(strategy)) {
    values.push_back(whole("parameter", named));
    of_model.emplace(named.first, values.back());
  }
  for (const Shard& shard : strategy.shards()) {
    const auto found = of_model.find(shard.name);
    if (found != of_model.end() && lies_in(shard, found->second)) continue;
    values.push_back(
        {.kind = "parameter", .name = shard.name, .region = shard.region, .values = shard.values});
  }
}

void append_state(Optimizer& optimizer, std::vector<StepValue>& values) {
  for (StateTensor& state : optimizer.state()) {
    values.push_back({.kind = "optimizer state",
                      .name = std::move(state.name),
                      .region = std::move(state.region),
                      .values = state.values});
  }
}

double as_f64(Buffer values, std::int64_t i) {
  return values.dtype == DType::kF32 ? values.as<float>()[i] : values.as<double>()[i];
}

bool has_bound(DType dtype, double bound) {
  return bound > 0 && (dtype == DType::kF32 || dtype == DType::kF64);
}

double largest_of(Buffer values) {
  double largest = 0;
  for (std::int64_t i = 0; i < values.count; ++i) {
    largest = std::max(largest, std::abs(as_f64(values, i)));
  }
  return largest;
}

// Returns the places in which two arrays of the same type differ, by bits or by more than `limit`.
std::vector<std::int64_t> places(Buffer own, Buffer expected, std::optional<double> limit) {
  std::vector<std::int64_t> found;
  if (std::memcmp(own.data, expected.data, own.bytes()) == 0) return found;
  for (std::int64_t i = 0; i < own.count; ++i) {
    const bool differs = limit ? !(std::abs(as_f64(own, i) - as_f64(expected, i)) <= *limit)
                               : std::memcmp(own.slice(i, 1).data, expected.slice(i, 1).data,
                                             size_of(own.dtype)) != 0;
    if (differs) found.push_back(i);
  }
  return found;
}

}  // namespace

std::vector<StepValue> values_of(const ComparedStep& step, bool with_shards) {
  std::vector<StepValue> values{number("loss", step.loss)};
  if (with_shards) append_gradients(step.strategy.shards(), values);
  if (step.norm) values.push_back(number("norm", *step.norm));
  append_parameters(step.strategy, values);
  if (with_shards && step.optimizer != nullptr) append_state(*step.optimizer, values);
  for (const NamedTensor& named : step.strategy.model().tensors().buffers) {
    values.push_back(whole("buffer", named));
  }
  return values;
}

Buffer elements_of(const StepValue& value, void* scratch) {
  if (value.shard == nullptr) return value.values;
  const Shard& shard = *value.shard;
  const Buffer sum{scratch, shard.values.count, shard.values.dtype};
  if (!shard.has_gradient) {
    std::memset(scratch, 0, sum.bytes());
  } else if (shard.tree == nullptr) {
    std::memcpy(scratch, shard.gradient.front(), sum.bytes());
  } else {
    const double divisor = shard.divisor > 0 ? shard.divisor : shard.tree->virtual_workers();
    tree_reduce(std::span(&scratch, 1), shard.gradient, *shard.tree, sum.count, sum.dtype,
                ReduceOp::kSum, divisor);
  }
  return sum;
}

std::string text_of(Buffer values, std::int64_t index) {
  const void* const element = values.slice(index, 1).data;
  const auto as = [&]<class T>(T value) {
    std::memcpy(&value, element, sizeof(T));
    return value;
  };
  switch (values.dtype) {
    case DType::kF32:
      return fmt::format("{}", as(float()));
    case DType::kF64:
      return fmt::format("{}", as(double()));
    case DType::kF16:
      return fmt::format("{}", static_cast<float>(as(at::Half())));
    case DType::kBF16:
      return fmt::format("{}", static_cast<float>(as(at::BFloat16())));
    case DType::kI32:
      return fmt::format("{}", as(std::int32_t()));
    case DType::kI64:
      return fmt::format("{}", as(std::int64_t()));
    case DType::kU8:
      return fmt::format("{}", as(std::uint8_t()));
  }
  return "";
}

RegionDifference compare_region(const Region& region, Buffer own, Buffer expected, double bound) {
  std::optional<double> limit;
  if (has_bound(own.dtype, bound)) limit = bound * largest_of(expected);
  RegionDifference difference;
  for (const auto& run : runs_of(region)) {
    const Buffer here = own.slice(run.local, run.count);
    const Buffer there = expected.slice(run.full, run.count);
    const std::vector<std::int64_t> found = places(here, there, limit);
    if (found.empty()) continue;
    if (difference.elements == 0) {
      const std::int64_t first = found.front();
      difference.index = run.full + first;
      difference.value = text_of(here, first);
      difference.expected = text_of(there, first);
    }
    difference.elements += std::ssize(found);
  }
  return difference;
}

}  // namespace trireme
