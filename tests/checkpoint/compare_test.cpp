// Checkpoints and models are compared by their values, however they lie in files.
#include "trireme/checkpoint/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "tests/checkpoint/layouts.h"
#include "tests/formats/error_of.h"
#include "trireme/base/error.h"
#include "trireme/formats/safetensors_model.h"

namespace trireme::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using Kind = TensorDifference::Kind;

class Compare : public testing::Test {
 protected:
  Compare() { files_.make_directory("/a"), files_.make_directory("/b"); }

  Comparison compare(const std::string& a = "/a", const std::string& b = "/b",
                     std::optional<double> tolerance = {}) {
    StoredTensors of_a(a, files_), of_b(b, files_);
    return trireme::compare(of_a, of_b, tolerance);
  }

  void save(const std::string& to, Cutting cutting, int ranks, const Changes& changes = {}) {
    save_state(to, cutting, ranks, files_, 16, 6, changes);
  }

  // A model with one tensor.
  template <class T>
  void write(const std::string& path, std::vector<T> values, DType dtype = dtype_of<T>(),
             std::string name = "w") {
    const auto count = std::ssize(values);
    const NamedBuffer tensor{std::move(name), {count}, {values.data(), count, dtype}};
    write_safetensors(path, std::span(&tensor, 1), {}, files_);
  }

  // The one difference of two models with one tensor.
  template <class T>
  TensorDifference difference(const std::vector<T>& a, const std::vector<T>& b, DType dtype,
                              std::optional<double> tolerance = {}) {
    write("/a/m.safetensors", a, dtype);
    write("/b/m.safetensors", b, dtype);
    const Comparison result = compare("/a/m.safetensors", "/b/m.safetensors", tolerance);
    EXPECT_EQ(result.tensors, 1);
    return result.is_equal() ? TensorDifference{} : result.tensor_differences.front();
  }

  MemoryFiles files_;
};

TEST_F(Compare, FindsAllLayoutsOfOneStateEqual) {
  for (const Cutting cutting : kCuttings) {
    for (int ranks = 1; ranks <= 4; ++ranks) {
      save("/a", cutting, ranks);
      for (const Cutting other : kCuttings) {
        save("/b", other, 3);
        const Comparison result = compare();
        EXPECT_TRUE(result.is_equal());
        EXPECT_EQ(result.tensors, 4);
        EXPECT_EQ(result.elements, 2 * 96 + 3 + 1);
        EXPECT_FALSE(result.of_models_alone);
      }
    }
  }
}

TEST_F(Compare, NamesTheFirstElementThatDiffers) {
  const auto with_changes = [](std::int64_t place) {
    return weight_at(place) + (place == 47 ? 1.0f : place == 48 || place == 95 ? -2.5f : 0.0f);
  };
  for (const Cutting cutting : kCuttings) {
    save("/a", Cutting::kColumns, 3);
    save("/b", cutting, 4, {.weight = with_changes});
    const Comparison result = compare();
    ASSERT_THAT(result.tensor_differences, SizeIs(1));
    const TensorDifference& difference = *result.first();
    EXPECT_EQ(difference.name, "model.qkv");
    EXPECT_EQ(difference.kind, Kind::kValues);
    EXPECT_THAT(difference.index, ElementsAre(7, 5));
    EXPECT_EQ(difference.value_a, "20.5");
    EXPECT_EQ(difference.value_b, "21.5");
    EXPECT_EQ(difference.elements, 96);
    EXPECT_EQ(difference.different, 3);
    EXPECT_EQ(difference.largest, 2.5);
    EXPECT_THAT(result.state_differences, IsEmpty());
  }
}

TEST_F(Compare, FindsEveryElementThatDiffers) {
  save("/a", Cutting::kColumnsInRanges, 4);
  for (std::int64_t changed = 0; changed < 96; ++changed) {
    const auto weight = [&](std::int64_t place) {
      return weight_at(place) + (place == changed ? 1.0f : 0.0f);
    };
    save("/b", Cutting::kFusedRows, 2, {.weight = weight});
    const Comparison result = compare();
    ASSERT_NE(result.first(), nullptr);
    EXPECT_THAT(result.first()->index, ElementsAre(changed / 6, changed % 6));
    EXPECT_EQ(result.first()->different, 1);
  }
}

// The matrix has more than a piece.
TEST_F(Compare, OfTensorsInPiecesFindsTheElement) {
  constexpr std::int64_t kRows = 200, kColumns = 6000, kChanged = 1'100'000;
  const auto weight = [](std::int64_t place) {
    return weight_at(place) + (place == kChanged ? 1.0f : 0.0f);
  };
  save_state("/a", Cutting::kRanges, 2, files_, kRows, kColumns);
  save_state("/b", Cutting::kColumns, 3, files_, kRows, kColumns, {.weight = weight});
  const Comparison result = compare();
  ASSERT_THAT(result.tensor_differences, SizeIs(1));
  EXPECT_THAT(result.first()->index, ElementsAre(kChanged / kColumns, kChanged % kColumns));
  EXPECT_EQ(result.first()->different, 1);
  EXPECT_EQ(result.elements, 2 * kRows * kColumns + 3 + 1);
}

TEST_F(Compare, ComparesBits) {
  const float nan = std::bit_cast<float>(0x7fc00000u),
              other_nan = std::bit_cast<float>(0x7fc00001u);
  write<float>("/a/m.safetensors", {nan, 0, 1});
  EXPECT_TRUE(compare("/a/m.safetensors", "/a/m.safetensors").is_equal());

  TensorDifference zeros = difference<float>({nan, 0, 1}, {nan, -0.0f, 1}, DType::kF32);
  EXPECT_THAT(zeros.index, ElementsAre(1));
  EXPECT_EQ(zeros.value_a, "0 (bits 0x00000000)");
  EXPECT_EQ(zeros.value_b, "-0 (bits 0x80000000)");
  EXPECT_EQ(zeros.largest, 0);

  TensorDifference nans = difference<float>({nan, 0}, {other_nan, 0}, DType::kF32);
  EXPECT_EQ(nans.value_a, "nan (bits 0x7fc00000)");
  EXPECT_EQ(nans.value_b, "nan (bits 0x7fc00001)");
  EXPECT_TRUE(std::isinf(nans.largest));
}

TEST_F(Compare, ComparesEveryType) {
  constexpr std::int64_t kLow = std::numeric_limits<std::int64_t>::min();
  constexpr std::int64_t kHigh = std::numeric_limits<std::int64_t>::max();
  TensorDifference d = difference<std::int64_t>({5, kLow, 0}, {5, kHigh, 1}, DType::kI64);
  EXPECT_EQ(d.value_a, "-9223372036854775808");
  EXPECT_EQ(d.value_b, "9223372036854775807");
  EXPECT_EQ(d.largest, 18446744073709551615.0);
  EXPECT_EQ(d.different, 2);
  d = difference<std::int32_t>({-7, 3}, {-7, -4}, DType::kI32);
  EXPECT_EQ(d.largest, 7);
  d = difference<std::uint8_t>({0, 250}, {0, 7}, DType::kU8);
  EXPECT_EQ(d.largest, 243);
  d = difference<double>({1, 2}, {1, 2.0000000000000004}, DType::kF64);
  EXPECT_EQ(d.value_b, "2.0000000000000004");
  // 1.0 and 1.5; 1.0 and 1.25.
  d = difference<std::uint16_t>({0, 0x3c00}, {0, 0x3e00}, DType::kF16);
  EXPECT_EQ(d.value_a + " " + d.value_b, "1 1.5");
  EXPECT_EQ(d.largest, 0.5);
  d = difference<std::uint16_t>({0, 0x3f80}, {0, 0x3fa0}, DType::kBF16);
  EXPECT_EQ(d.value_a + " " + d.value_b, "1 1.25");
  EXPECT_EQ(d.largest, 0.25);
}

TEST_F(Compare, WithAToleranceLeavesOutSmallDifferences) {
  const std::vector<float> a = {1, 2, 3, 0}, b = {1.5f, 2.25f, 4, -0.0f};
  EXPECT_EQ(difference(a, b, DType::kF32).different, 4);
  EXPECT_EQ(difference(a, b, DType::kF32, 0).different, 3);
  EXPECT_EQ(difference(a, b, DType::kF32, 0.25).different, 2);
  const TensorDifference d = difference(a, b, DType::kF32, 0.5);
  EXPECT_EQ(d.different, 1);
  EXPECT_THAT(d.index, ElementsAre(2));
  EXPECT_EQ(difference(a, b, DType::kF32, 1).different, 0);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(difference<float>({1}, {nan}, DType::kF32, 1e30).different, 1);
  for (const double bad : {-1.0, std::numeric_limits<double>::infinity(), std::nan("")}) {
    EXPECT_THAT(error_of<UsageError>([&] { compare("/a/m.safetensors", "/b/m.safetensors", bad); }),
                HasSubstr("at least 0"));
  }
}

TEST_F(Compare, SaysWhatIsMissingOrOfAnotherTypeOrShape) {
  std::vector<float> values(6);
  std::vector<std::int32_t> integers(6);
  const auto buffer = [](auto& memory) {
    return Buffer{memory.data(), std::ssize(memory), dtype_of<std::decay_t<decltype(memory[0])>>()};
  };
  write_safetensors("/a/m.safetensors",
                    std::vector<NamedBuffer>{{"extra", {6}, buffer(values)},
                                             {"same", {6}, buffer(values)},
                                             {"shape", {2, 3}, buffer(values)},
                                             {"type", {6}, buffer(values)}},
                    {}, files_);
  write_safetensors("/b/m.safetensors",
                    std::vector<NamedBuffer>{{"new", {6}, buffer(values)},
                                             {"same", {6}, buffer(values)},
                                             {"shape", {3, 2}, buffer(values)},
                                             {"type", {6}, buffer(integers)}},
                    {}, files_);
  const Comparison result = compare("/a/m.safetensors", "/b/m.safetensors");
  EXPECT_FALSE(result.is_equal());
  EXPECT_EQ(result.first(), nullptr);
  EXPECT_EQ(result.tensors, 1);
  std::vector<std::string> found;
  for (const TensorDifference& d : result.tensor_differences) {
    found.push_back(d.name + ": " + std::string(name_of(d.kind)) + " " + d.a + "|" + d.b);
  }
  EXPECT_THAT(found, ElementsAre("extra: only in A f32[6]|", "new: only in B |f32[6]",
                                 "shape: type or shape f32[2, 3]|f32[3, 2]",
                                 "type: type or shape f32[6]|i32[6]"));
}

TEST_F(Compare, OfACheckpointAndAModelLooksAtTheModelAlone) {
  save("/a", Cutting::kColumns, 3);
  std::vector<float> qkv(96);
  std::vector<double> bias(3, 0.25);
  for (std::size_t i = 0; i < qkv.size(); ++i) qkv[i] = weight_at(static_cast<std::int64_t>(i));
  const std::vector<NamedBuffer> tensors = {{"qkv", {16, 6}, buffer_of(std::span(qkv))},
                                            {"bias", {3}, buffer_of(std::span(bias))}};
  write_safetensors_model("/b/model.safetensors", tensors, {}, 200, files_);
  for (const std::string model : {"/b/model.safetensors", "/b/model.safetensors.index.json"}) {
    EXPECT_TRUE(compare("/a", model).of_models_alone);
    EXPECT_TRUE(compare("/a", model).is_equal());
    EXPECT_TRUE(compare(model, "/a/step-20").is_equal());
    EXPECT_EQ(compare("/a", model).tensors, 2);
  }
  qkv[8] = 100;
  write_safetensors_model("/b/model.safetensors", tensors, {}, 0, files_);
  const Comparison result = compare("/a", "/b/model.safetensors");
  ASSERT_NE(result.first(), nullptr);
  EXPECT_EQ(result.first()->name, "model.qkv");
  EXPECT_THAT(result.first()->index, ElementsAre(1, 2));
}

TEST_F(Compare, SaysWhatElseOfTheStateDiffers) {
  save("/a", Cutting::kWhole, 1);
  RunState state = some_state();
  state.metadata["training.seed"] = "8";
  state.sections[sections::kPrecision]["loss_scale"] = 2048.0;
  state.sections[sections::kSchedule].clear();
  state.sections[sections::kConfiguration]["toml"] = "x = 1";
  save("/b", Cutting::kWhole, 1, {.state = state});
  const Comparison result = compare();
  EXPECT_FALSE(result.is_equal());
  EXPECT_THAT(result.tensor_differences, IsEmpty());
  std::vector<std::string> found;
  for (const StateDifference& d : result.state_differences) {
    found.push_back(d.name + " " + d.a + "|" + d.b);
  }
  EXPECT_THAT(found, ElementsAre("metadata.training.seed 7|8", "precision.loss_scale 1024|2048",
                                 "schedule.last_step 300|"));
  EXPECT_TRUE(result.configurations_differ);

  state = some_state();
  state.sections[sections::kConfiguration]["toml"] = "x = 1";
  save("/b", Cutting::kWhole, 1, {.state = state});
  EXPECT_TRUE(compare().is_equal());
  EXPECT_TRUE(compare().configurations_differ);
}

TEST_F(Compare, OfAnotherStepIsADifference) {
  save("/a", Cutting::kWhole, 1);
  RunState state = some_state();
  state.step = 30;
  save("/b", Cutting::kWhole, 1, {.state = state});
  const Comparison result = compare();
  ASSERT_THAT(result.state_differences, SizeIs(1));
  EXPECT_EQ(result.state_differences[0].name, "step");
  EXPECT_EQ(result.state_differences[0].b, "30");
}

TEST_F(Compare, RefusesDamagedFiles) {
  save("/a", Cutting::kWhole, 1);
  save("/b", Cutting::kRanges, 2);
  const std::string path = "/b/step-20/rank-1.safetensors";
  const std::string whole = read_file(path, files_);
  std::string changed = whole;
  changed.back() ^= 1;
  write_file_atomically(path, changed, files_);
  EXPECT_THAT(error_of<DataError>([&] { compare(); }), HasSubstr(path + ": the file is damaged"));
  for (std::size_t length = 0; length < whole.size(); length += 7) {
    write_file_atomically(path, whole.substr(0, length), files_);
    EXPECT_THAT(error_of<DataError>([&] { compare(); }), HasSubstr(path + ": the file is damaged"));
  }
  files_.remove(path);
  EXPECT_THAT(error_of<DataError>([&] { compare(); }), HasSubstr(path + ": must be a file"));
}

}  // namespace
}  // namespace trireme::test
