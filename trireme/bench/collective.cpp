#include "trireme/bench/collective.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "trireme/base/error.h"
#include "trireme/base/text.h"

namespace trireme::bench {

namespace {

constexpr std::array kCollectives = {Collective::kAllReduce,     Collective::kAllGather,
                                     Collective::kReduceScatter, Collective::kBroadcast,
                                     Collective::kAllToAll,      Collective::kSend};

constexpr std::array kTypes = {DType::kF32, DType::kF64, DType::kF16, DType::kBF16,
                               DType::kI32, DType::kI64, DType::kU8};

}  // namespace

std::string_view name_of(Collective collective) {
  switch (collective) {
    case Collective::kAllReduce:
      return "all-reduce";
    case Collective::kAllGather:
      return "all-gather";
    case Collective::kReduceScatter:
      return "reduce-scatter";
    case Collective::kBroadcast:
      return "broadcast";
    case Collective::kAllToAll:
      return "all-to-all";
    case Collective::kSend:
      return "send";
  }
  return "?";
}

std::vector<std::string> collective_names() {
  std::vector<std::string> names;
  for (const Collective collective : kCollectives) names.emplace_back(name_of(collective));
  return names;
}

Collective collective_named(std::string_view name) {
  for (const Collective collective : kCollectives) {
    if (name_of(collective) == name) return collective;
  }
  std::vector<std::string> names = collective_names();
  names.emplace_back("train");
  const std::string guess = nearest(name, names);
  throw UsageError(fmt::format("bench: no operation \"{}\"; {}", name,
                               guess.empty() ? fmt::format("there are {}", fmt::join(names, ", "))
                                             : fmt::format("did you mean {}?", guess)));
}

bool reduces(Collective collective) {
  return collective == Collective::kAllReduce || collective == Collective::kReduceScatter;
}

DType dtype_named(std::string_view name) {
  std::vector<std::string> names;
  for (const DType dtype : kTypes) {
    if (trireme::name_of(dtype) == name) return dtype;
    names.emplace_back(trireme::name_of(dtype));
  }
  throw UsageError(
      fmt::format("bench: --dtype must be one of {}, got \"{}\"", fmt::join(names, ", "), name));
}

Shape shape_of(Collective collective, std::int64_t bytes, DType dtype, int ranks) {
  const auto element = static_cast<std::int64_t>(size_of(dtype));
  const std::int64_t whole = std::max<std::int64_t>(1, bytes / element);
  const std::int64_t piece = std::max<std::int64_t>(1, whole / ranks);
  Shape shape;
  switch (collective) {
    case Collective::kAllReduce:
    case Collective::kBroadcast:
    case Collective::kSend:
      shape = {whole, whole, whole};
      break;
    case Collective::kAllGather:
      shape = {piece, piece, piece * ranks};
      break;
    case Collective::kReduceScatter:
      shape = {piece, piece * ranks, piece};
      break;
    case Collective::kAllToAll:
      shape = {piece, piece * ranks, piece * ranks};
      break;
  }
  shape.bytes = std::max(shape.in, shape.out) * element;
  return shape;
}

double bus_factor(Collective collective, int ranks) {
  const double others = static_cast<double>(ranks - 1) / ranks;
  switch (collective) {
    case Collective::kAllReduce:
      return 2 * others;
    case Collective::kAllGather:
    case Collective::kReduceScatter:
    case Collective::kAllToAll:
      return others;
    case Collective::kBroadcast:
    case Collective::kSend:
      return 1;
  }
  return 1;
}

}  // namespace trireme::bench
