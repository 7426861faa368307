#include "trireme/train/verify.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <exception>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/runs.h"
#include "trireme/comm/objects.h"
#include "trireme/train/step_values.h"

namespace trireme {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Difference, step, kind, tensor, rank, index, value, expected,
                                   elements, of_elements)

namespace {

constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();

/// A tensor of the reference, as the ranks know it.
struct WholeTensor {
  std::string kind;
  std::string name;
  TensorShape shape;
  DType dtype = DType::kF32;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(WholeTensor, kind, name, shape, dtype)

std::string described(const TensorShape& shape, DType dtype) {
  return fmt::format("{}[{}]", name_of(dtype), fmt::join(shape, ", "));
}

std::vector<WholeTensor> wholes_of(std::span<const StepValue> values) {
  std::vector<WholeTensor> wholes;
  for (const StepValue& value : values) {
    if (!value.region.is_whole()) {
      throw UsageError(
          fmt::format("verify: the reference must hold whole tensors, got {}{} of {}; use "
                      "replicated() where is_reference()",
                      value.name, to_string(value.region), value.kind));
    }
    wholes.push_back({value.kind, value.name, value.region.full_shape(), value.values.dtype});
  }
  return wholes;
}

/// One step on one rank: its values beside the whole tensors of the reference.
class ComparedTensors {
 public:
  ComparedTensors(Communicator& world, std::vector<StepValue> values, const VerifyOptions& options)
      : world_(world), values_(std::move(values)), bound_(options.bound) {
    for (const StepValue& value : values_) own_[{value.kind, value.name}].push_back(&value);
    const auto own = is_reference() ? wholes_of(values_) : std::vector<WholeTensor>();
    wholes_ = nlohmann::json::parse(broadcast_object(world_, nlohmann::json(own).dump(), last()))
                  .get<std::vector<WholeTensor>>();
  }

  /// Compares all. `covers`: each element must lie on a rank.
  void compare(bool covers) {
    for (std::size_t i = 0; i < wholes_.size(); ++i) {
      const Buffer whole = receive(i);
      if (!is_reference()) compare_own(i, whole);
      if (covers && !wholes_[i].name.empty()) require_held(i, whole);
    }
    if (!is_reference()) find_others();
  }

  /// Returns the first difference of all ranks, on each of them.
  std::optional<Difference> first_of_all(std::int64_t step) {
    std::vector<std::int64_t> all(static_cast<std::size_t>(world_.size()));
    world_.all_gather(buffer_of(std::span(all)), buffer_of(std::span(&found_in_, 1))).wait();
    const auto first = std::ranges::min_element(all);
    if (*first == kNone) return std::nullopt;
    const auto rank = static_cast<int>(first - all.begin());
    found_.step = step;
    return nlohmann::json::parse(broadcast_object(world_, nlohmann::json(found_).dump(), rank))
        .get<Difference>();
  }

  std::map<std::string, std::int64_t> counts() const {
    std::map<std::string, std::int64_t> counts;
    for (const WholeTensor& whole : wholes_) ++counts[whole.kind];
    return counts;
  }

 private:
  int last() const { return world_.size() - 1; }
  bool is_reference() const { return world_.rank() == last(); }

  // Returns tensor `i` of the reference.
  Buffer receive(std::size_t i) {
    const WholeTensor& whole = wholes_[i];
    Buffer buffer{nullptr, elements_of_shape(whole), whole.dtype};
    received_.resize(std::max(received_.size(), buffer.bytes()));
    buffer.data = received_.data();
    if (is_reference()) buffer = elements_of(values_[i], received_.data());
    world_.broadcast(buffer, last()).wait();
    return buffer;
  }

  bool is_part(const StepValue& value, std::size_t i) const {
    return value.region.full_shape() == wholes_[i].shape &&
           value.values.dtype == wholes_[i].dtype && value.values.count == value.region.count();
  }

  static std::int64_t elements_of_shape(const WholeTensor& whole) {
    return trireme::elements_of(std::span<const std::int64_t>(whole.shape));
  }

  void compare_own(std::size_t i, Buffer whole) {
    for (const StepValue* own : values_like(i)) {
      const StepValue& value = *own;
      if (!is_part(value, i)) {
        note(i, value,
             {.elements = value.values.count,
              .value = described(value.region.full_shape(), value.values.dtype),
              .expected = described(wholes_[i].shape, whole.dtype)});
        continue;
      }
      if (value.shard != nullptr) {
        scratch_.resize(std::max(scratch_.size(), value.values.bytes()));
      }
      const RegionDifference difference =
          compare_region(value.region, elements_of(value, scratch_.data()), whole, bound_);
      if (difference.elements > 0) note(i, value, difference);
    }
  }

  void note(std::size_t i, const StepValue& value, const RegionDifference& difference) {
    note(i, {.kind = value.kind,
             .tensor = value.name,
             .rank = world_.rank(),
             .index = difference.index,
             .value = difference.value,
             .expected = difference.expected,
             .elements = difference.elements,
             .of_elements = value.values.count});
  }

  void note(std::size_t i, Difference difference) {
    if (found_in_ != kNone) return;
    found_in_ = static_cast<std::int64_t>(i);
    found_ = std::move(difference);
  }

  // Collective: the reference notes the first element that no rank holds.
  void require_held(std::size_t i, Buffer whole) {
    std::vector<std::uint8_t> held(static_cast<std::size_t>(whole.count));
    if (!is_reference()) {
      for (const StepValue* value : values_like(i)) {
        if (!is_part(*value, i)) continue;
        for (const auto& run : runs_of(value->region)) {
          std::fill_n(held.begin() + run.full, run.count, std::uint8_t{1});
        }
      }
    }
    world_.reduce(buffer_of(std::span(held)), last(), ReduceOp::kMax).wait();
    if (!is_reference()) return;
    const auto missing = std::ranges::count(held, 0);
    if (missing == 0) return;
    const std::int64_t index = std::ranges::find(held, 0) - held.begin();
    note(i, {.kind = wholes_[i].kind,
             .tensor = wholes_[i].name,
             .index = index,
             .value = "none",
             .expected = text_of(whole, index),
             .elements = missing,
             .of_elements = whole.count});
  }

  // Notes what this rank has and the reference has not.
  void find_others() {
    std::set<Key> known;
    for (const WholeTensor& whole : wholes_) known.emplace(whole.kind, whole.name);
    for (const StepValue& value : values_) {
      if (known.contains({value.kind, value.name})) continue;
      note(wholes_.size(), value,
           {.elements = value.values.count,
            .value = described(value.region.full_shape(), value.values.dtype),
            .expected = "none"});
    }
  }

  using Key = std::pair<std::string, std::string>;

  std::span<const StepValue* const> values_like(std::size_t i) const {
    const auto found = own_.find({wholes_[i].kind, wholes_[i].name});
    if (found == own_.end()) return {};
    return found->second;
  }

  Communicator& world_;
  std::vector<StepValue> values_;
  double bound_;
  std::map<Key, std::vector<const StepValue*>> own_;  // values of each kind and name
  std::vector<WholeTensor> wholes_;
  std::vector<std::byte> received_, scratch_;
  std::int64_t found_in_ = kNone;  // the tensor of the first difference of this rank
  Difference found_;
};

// True if every rank's shards have the gradients and the state of the step.
bool all_have_shards(Communicator& world, Strategy& strategy) {
  std::int64_t have = strategy.relaxed() == nullptr ? 1 : 0;
  world.all_reduce(buffer_of(std::span(&have, 1)), ReduceOp::kMin).wait();
  return have == 1;
}

}  // namespace

StepComparison::StepComparison(Communicator& world, VerifyOptions options)
    : world_(world), options_(options) {
  if (world.size() > 1) return;
  throw UsageError(
      "verify: the world must have a rank for the reference and at least one more, got 1 rank");
}

bool StepComparison::is_reference() const {
  return world_.rank() == world_.size() - 1;
}

bool StepComparison::goes_on() const {
  return !result_.difference && result_.steps < options_.steps;
}

void StepComparison::compare(const ComparedStep& step) {
  const bool with_shards = all_have_shards(world_, step.strategy);
  ComparedTensors comparison(world_, values_of(step, with_shards), options_);
  comparison.compare(result_.steps == 0);
  ++result_.steps;
  for (const auto& [kind, count] : comparison.counts()) result_.compared[kind] = count;
  result_.difference = comparison.first_of_all(result_.steps);
}

Verification verify(Communicator& world,
                    const std::function<void(Communicator&, StepComparison&)>& training,
                    VerifyOptions options) {
  StepComparison comparison(world, options);
  const auto ranks = world.split(comparison.is_reference() ? 1 : 0, world.rank());
  try {
    training(*ranks, comparison);
  } catch (...) {
    // Ranks that wait for this one would not see that the loop is over.
    ranks->abort(std::current_exception());
    world.abort(std::current_exception());
    throw;
  }
  return comparison.result();
}

}  // namespace trireme
