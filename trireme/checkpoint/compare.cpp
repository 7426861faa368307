#include "trireme/checkpoint/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "trireme/base/error.h"
#include "trireme/checkpoint/pieces.h"
#include "trireme/kernels/cast.h"

namespace trireme {

namespace {

using Kind = TensorDifference::Kind;

// The same tensor in A and in B.
struct Pair {
  const std::string* a = nullptr;
  const std::string* b = nullptr;
};

// By the name in A.
using Pairs = std::map<std::string, Pair>;

bool are_models_alone(const StoredTensors& a, const StoredTensors& b) {
  return a.is_checkpoint() != b.is_checkpoint();
}

// The names that are compared, each with the one in the checkpoint or model.
std::map<std::string, const std::string*> names_of(const StoredTensors& stored, bool models_alone) {
  std::map<std::string, const std::string*> names;
  for (const auto& [name, tensor] : stored.manifest().tensors) {
    const bool is_cut = models_alone && stored.is_checkpoint();
    std::string common = is_cut ? name_in_model(name) : name;
    if (!common.empty()) names.emplace(std::move(common), &name);
  }
  return names;
}

Pairs pairs_of(const StoredTensors& a, const StoredTensors& b) {
  const bool models_alone = are_models_alone(a, b);
  Pairs pairs;
  for (const auto& [name, in_a] : names_of(a, models_alone)) pairs[name].a = in_a;
  for (const auto& [name, in_b] : names_of(b, models_alone)) pairs[name].b = in_b;
  return pairs;
}

std::string type_of(const StoredTensors& stored, const std::string* name) {
  if (name == nullptr) return "";
  const Manifest::Tensor& tensor = stored.manifest().tensors.at(*name);
  return describe(tensor.dtype, tensor.shape);
}

// The index of an element in each dimension.
std::vector<std::int64_t> index_of(std::int64_t element, const TensorShape& shape) {
  std::vector<std::int64_t> index(shape.size());
  for (std::size_t dim = shape.size(); dim-- > 0;) {
    index[dim] = element % shape[dim];
    element /= shape[dim];
  }
  return index;
}

template <class T>
std::string number_text(T value) {
  if constexpr (std::is_floating_point_v<T>) {
    return fmt::format("{:.{}g}", value, std::numeric_limits<T>::max_digits10);
  } else {
    return fmt::format("{}", value);
  }
}

template <class T>
double distance(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    const double difference = std::abs(static_cast<double>(a) - static_cast<double>(b));
    return std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference;
  } else {
    // Of 64 bits: a difference of signed integers may overflow.
    const auto x = static_cast<std::uint64_t>(std::max(a, b));
    return static_cast<double>(x - static_cast<std::uint64_t>(std::min(a, b)));
  }
}

// Compares one tensor, piece by piece.
class TensorComparison {
 public:
  TensorComparison(TensorDifference& result, const TensorShape& shape,
                   std::optional<double> tolerance)
      : result_(result), shape_(shape), tolerance_(tolerance) {}

  void compare(std::int64_t first, const Buffer& a, const Buffer& b) {
    if (std::memcmp(a.data, b.data, a.bytes()) == 0) return;
    switch (a.dtype) {
      case DType::kF32:
        return compare_as<float>(first, a, b);
      case DType::kF64:
        return compare_as<double>(first, a, b);
      case DType::kI32:
        return compare_as<std::int32_t>(first, a, b);
      case DType::kI64:
        return compare_as<std::int64_t>(first, a, b);
      case DType::kU8:
        return compare_as<std::uint8_t>(first, a, b);
      case DType::kF16:
      case DType::kBF16:
        return compare_halves(first, a, b);
    }
  }

 private:
  template <class T>
  void compare_as(std::int64_t first, const Buffer& a, const Buffer& b) {
    for (std::int64_t i = 0; i < a.count; ++i) {
      const Buffer one = a.slice(i, 1), other = b.slice(i, 1);
      if (std::memcmp(one.data, other.data, sizeof(T)) == 0) continue;
      note(first + i, *one.as<T>(), *other.as<T>(), one, other);
    }
  }

  void compare_halves(std::int64_t first, const Buffer& a, const Buffer& b) {
    for (std::int64_t i = 0; i < a.count; ++i) {
      const Buffer one = a.slice(i, 1), other = b.slice(i, 1);
      if (std::memcmp(one.data, other.data, one.bytes()) == 0) continue;
      float x = 0, y = 0;
      widen(one, &x);
      widen(other, &y);
      note(first + i, x, y, one, other);
    }
  }

  template <class T>
  void note(std::int64_t element, T a, T b, const Buffer& bits_a, const Buffer& bits_b) {
    const double apart = distance(a, b);
    if (tolerance_ && apart <= *tolerance_) return;
    if (result_.different++ == 0) {
      result_.index = index_of(element, shape_);
      result_.value_a = number_text(a);
      result_.value_b = number_text(b);
      if (result_.value_a == result_.value_b || a == b) {
        result_.value_a += bits_of(bits_a);
        result_.value_b += bits_of(bits_b);
      }
    }
    result_.largest = std::max(result_.largest, apart);
  }

  // Of values that only their bits tell apart: zeros of two signs, NaNs.
  static std::string bits_of(const Buffer& element) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, element.data, element.bytes());
    return fmt::format(" (bits 0x{:0{}x})", bits, 2 * element.bytes());
  }

  TensorDifference& result_;
  const TensorShape& shape_;
  std::optional<double> tolerance_;
};

class Comparer {
 public:
  Comparer(StoredTensors& a, StoredTensors& b, std::optional<double> tolerance)
      : a_(a), b_(b), tolerance_(tolerance), pairs_(pairs_of(a, b)) {}

  void verify() const {
    std::vector<std::string> of_a, of_b;
    for (const auto& [name, pair] : pairs_) {
      if (pair.a != nullptr) of_a.push_back(*pair.a);
      if (pair.b != nullptr) of_b.push_back(*pair.b);
    }
    a_.verify(of_a);
    b_.verify(of_b);
  }

  void compare_tensors(Comparison& result) {
    for (const auto& [name, pair] : pairs_) {
      TensorDifference difference{.name = pair.a != nullptr ? *pair.a : *pair.b,
                                  .a = type_of(a_, pair.a),
                                  .b = type_of(b_, pair.b)};
      if (pair.a == nullptr || pair.b == nullptr) {
        difference.kind = pair.a == nullptr ? Kind::kOnlyInB : Kind::kOnlyInA;
      } else if (difference.a != difference.b) {
        difference.kind = Kind::kTypeOrShape;
      } else {
        compare_values(pair, difference);
        ++result.tensors;
        result.elements += difference.elements;
        if (difference.different == 0) continue;
      }
      result.tensor_differences.push_back(std::move(difference));
    }
  }

 private:
  void compare_values(const Pair& pair, TensorDifference& difference) {
    const Manifest::Tensor& tensor = a_.manifest().tensors.at(*pair.a);
    difference.elements = elements_of(tensor.shape);
    TensorComparison comparison(difference, tensor.shape, tolerance_);
    PieceBuffer of_a, of_b;
    for (const Range& piece : pieces_of({0, difference.elements}, tensor.dtype)) {
      const Buffer a = of_a.buffer(piece.size(), tensor.dtype);
      const Buffer b = of_b.buffer(piece.size(), tensor.dtype);
      a_.read(*pair.a, piece, a);
      b_.read(*pair.b, piece, b);
      comparison.compare(piece.begin, a, b);
    }
  }

  StoredTensors& a_;
  StoredTensors& b_;
  std::optional<double> tolerance_;
  Pairs pairs_;
};

std::string value_text(const RunState::Value& value) {
  if (const auto* truth = std::get_if<bool>(&value)) return *truth ? "true" : "false";
  if (const auto* number = std::get_if<double>(&value)) return fmt::format("{}", *number);
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return fmt::format("{}", *integer);
  return std::get<std::string>(value);
}

// Everything beside tensors as text, by a name that says where it is.
std::map<std::string, std::string> texts_of(const RunState& state) {
  std::map<std::string, std::string> texts;
  texts["step"] = fmt::format("{}", state.step);
  for (const auto& [name, text] : state.metadata) texts["metadata." + name] = text;
  for (const auto& [name, section] : state.sections) {
    if (name == sections::kConfiguration) continue;
    for (const auto& [key, value] : section)
      texts[fmt::format("{}.{}", name, key)] = value_text(value);
  }
  return texts;
}

void compare_states(const RunState& a, const RunState& b, Comparison& result) {
  std::map<std::string, StateDifference> all;
  for (auto& [name, text] : texts_of(a)) all[name].a = text;
  for (auto& [name, text] : texts_of(b)) all[name].b = text;
  for (auto& [name, both] : all) {
    if (both.a == both.b) continue;
    both.name = name;
    result.state_differences.push_back(both);
  }
  const auto configuration_of = [](const RunState& state) {
    const auto found = state.sections.find(sections::kConfiguration);
    return found == state.sections.end() ? RunState::Section{} : found->second;
  };
  result.configurations_differ = configuration_of(a) != configuration_of(b);
}

}  // namespace

std::string_view name_of(TensorDifference::Kind kind) {
  switch (kind) {
    case Kind::kValues:
      return "values";
    case Kind::kTypeOrShape:
      return "type or shape";
    case Kind::kOnlyInA:
      return "only in A";
    case Kind::kOnlyInB:
      return "only in B";
  }
  return "";
}

const TensorDifference* Comparison::first() const {
  const auto found = std::ranges::find(tensor_differences, Kind::kValues, &TensorDifference::kind);
  return found == tensor_differences.end() ? nullptr : &*found;
}

Comparison compare(StoredTensors& a, StoredTensors& b, std::optional<double> tolerance) {
  if (tolerance && !(*tolerance >= 0 && std::isfinite(*tolerance))) {
    throw UsageError(
        fmt::format("compare: tolerance must be a number of at least 0, got {}", *tolerance));
  }
  Comparer comparer(a, b, tolerance);
  comparer.verify();
  Comparison result{.of_models_alone = are_models_alone(a, b)};
  comparer.compare_tensors(result);
  if (a.is_checkpoint() && b.is_checkpoint()) {
    compare_states(a.manifest().state, b.manifest().state, result);
  }
  return result;
}

}  // namespace trireme
