#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tests/base/memory_files.h"
#include "tests/checkpoint/tensors.h"
#include "tests/comm/ranks.h"

namespace trireme::test {

/// How the ranks that wrote a checkpoint shared the elements of a matrix.
enum class Cutting { kWhole, kRanges, kColumns, kFusedRows, kColumnsInRanges };

inline constexpr Cutting kCuttings[] = {Cutting::kWhole, Cutting::kRanges, Cutting::kColumns,
                                        Cutting::kFusedRows, Cutting::kColumnsInRanges};

/// What a rank has of a matrix of `rows` rows, of which one half, a quarter and a quarter are parts
/// of a fused weight. An empty region: nothing.
inline Region part_of_rank(Cutting cutting, std::int64_t rows, std::int64_t columns, int ranks,
                           int rank) {
  const Region whole({rows, columns});
  const Region own_columns(whole.full_shape(), {{1, {partition(columns, ranks, rank)}}});
  switch (cutting) {
    case Cutting::kWhole:
      return whole.slice({0, rank == 0 ? whole.count() : 0});
    case Cutting::kRanges:
      return whole.slice(partition(whole.count(), ranks, rank));
    case Cutting::kColumns:
      return own_columns;
    case Cutting::kColumnsInRanges: {
      // Two halves of the columns, each in ranges: rank 2k and 2k + 1 share half k % 2.
      const int half = rank % 2, halves = ranks > 1 ? 2 : 1;
      const Region of_half(whole.full_shape(), {{1, {partition(columns, halves, half)}}});
      const int sharers = (ranks + halves - 1 - half) / halves;
      return of_half.slice(partition(of_half.count(), sharers, rank / halves));
    }
    case Cutting::kFusedRows: {
      Cut cut{.dim = 0, .kept = {}};
      for (const Range part :
           {Range{0, rows / 2}, Range{rows / 2, rows * 3 / 4}, Range{rows * 3 / 4, rows}}) {
        const Range own = partition(part.size(), ranks, rank);
        cut.kept.push_back({part.begin + own.begin, part.begin + own.end});
      }
      return Region(whole.full_shape(), {cut});
    }
  }
  return whole;
}

/// Values of the state below, by the place in the flattened tensor.
inline float weight_at(std::int64_t place) {
  return static_cast<float>(place) * 0.5f - 3;
}
inline float moment_at(std::int64_t place) {
  return static_cast<float>(place % 1000) * 0.25f;
}
inline constexpr std::int64_t kStep = 20;

inline RunState some_state() {
  return {.step = kStep,
          .metadata = {{"training.seed", "7"}},
          .sections = {{sections::kPrecision, {{"loss_scale", 1024.0}}},
                       {sections::kSchedule, {{"last_step", std::int64_t{300}}}}}};
}

struct Changes {
  RunState state = some_state();
  std::function<float(std::int64_t)> weight = weight_at;
};

/// Writes step-20 to `directory` by `ranks` ranks: the matrices "model.qkv" and
/// "optimizer.qkv.exp_avg", cut, "model.bias" of three doubles and the counter
/// "optimizer.qkv.step", the last two whole.
inline void save_state(const std::filesystem::path& directory, Cutting cutting, int ranks,
                       Files& files, std::int64_t rows = 16, std::int64_t columns = 6,
                       const Changes& changes = {}) {
  run_ranks(ranks, [&](Communicator& world) {
    const Region region = part_of_rank(cutting, rows, columns, ranks, world.rank());
    OwnedTensor<> weight("model.qkv", region);
    OwnedTensor<> moment("optimizer.qkv.exp_avg", region);
    fill_by_place(weight, changes.weight);
    fill_by_place(moment, moment_at);
    OwnedTensor<std::int64_t> counter("optimizer.qkv.step", {1}, 0, 1, kStep);
    OwnedTensor<double> bias("model.bias", {3}, 0, 3, 0.25);
    std::vector<StateTensor> mine = {weight.tensor, moment.tensor, counter.tensor};
    if (world.rank() == 0) mine.push_back(bias.tensor);
    save_checkpoint(directory, world, changes.state, mine, {.newest = 0}, files);
  });
}

/// The bytes of `count` values.
template <class T>
std::string bytes_of_values(std::int64_t count, const std::function<T(std::int64_t)>& value_at) {
  std::string bytes;
  for (std::int64_t i = 0; i < count; ++i) {
    const T value = value_at(i);
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  return bytes;
}

/// The bytes of each tensor of the state's model.
inline std::map<std::string, std::string> bytes_of_model(std::int64_t rows = 16,
                                                         std::int64_t columns = 6) {
  return {{"qkv", bytes_of_values<float>(rows * columns, weight_at)},
          {"bias", bytes_of_values<double>(3, [](std::int64_t) { return 0.25; })}};
}

/// Loads the whole state of the step's folder and expects its values.
inline void expect_state(const std::filesystem::path& step_directory, Files& files,
                         std::int64_t rows = 16, std::int64_t columns = 6) {
  const Region whole({rows, columns});
  const OwnedTensor<> weight("model.qkv", whole), moment("optimizer.qkv.exp_avg", whole);
  const OwnedTensor<std::int64_t> counter("optimizer.qkv.step", {1}, 0, 1);
  const OwnedTensor<double> bias("model.bias", {3}, 0, 3);
  const RunState state = load_checkpoint(
      step_directory, std::vector{weight.tensor, moment.tensor, counter.tensor, bias.tensor},
      files);
  OwnedTensor<> expected_weight("", whole), expected_moment("", whole);
  fill_by_place(expected_weight, weight_at);
  fill_by_place(expected_moment, moment_at);
  EXPECT_EQ(weight.values, expected_weight.values);
  EXPECT_EQ(moment.values, expected_moment.values);
  EXPECT_EQ(counter.values[0], kStep);
  EXPECT_EQ(bias.values, std::vector<double>(3, 0.25));
  EXPECT_EQ(state.step, kStep);
  EXPECT_EQ(state.metadata, some_state().metadata);
  EXPECT_EQ(state.sections, some_state().sections);
}

}  // namespace trireme::test
