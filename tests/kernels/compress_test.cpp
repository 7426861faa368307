#include "trireme/kernels/compress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>

#include "tests/kernels/half.h"
#include "tests/kernels/targets.h"
#include "trireme/base/error.h"
#include "trireme/base/random.h"
#include "trireme/kernels/reduce.h"

namespace trireme {
namespace {

constexpr std::int64_t kRows = 23;
constexpr std::int64_t kColumns = 41;
constexpr std::int64_t kCount = kRows * kColumns;  // blocks of 256 and a rest
const std::vector<std::int64_t> kShape = {kRows, kColumns};
constexpr std::size_t kHeader = 16;

using Bytes = std::vector<std::byte>;
using Floats = std::vector<float>;

Floats random_values(std::int64_t count, std::uint64_t seed) {
  const CounterRandom random(seed);
  Floats values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(random.normal(i) * std::exp(random.normal(i + values.size())));
  }
  return values;
}

CompressionOptions options_of(std::string_view codec) {
  return {.codec = std::string(codec), .ratio = 0.1, .rank = 3, .seed = 5};
}

Compressor whole(std::string_view codec) {
  return Compressor(options_of(codec), kShape, {0, kCount}, 1);
}

Bytes encoded(Compressor& compressor, const Floats& values, std::int64_t step = 0) {
  Bytes payload(compressor.bytes());
  compressor.encode(buffer_of(std::span(const_cast<Floats&>(values))), step, payload);
  return payload;
}

Floats decoded(std::span<const std::byte> payload, std::int64_t count = kCount) {
  Floats out(static_cast<std::size_t>(count), std::nanf(""));
  decode(payload, count, out.data());
  return out;
}

template <class T>
T at(const Bytes& bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

// The slow ones: what each codec makes of `x`, written down as its header describes it.

Floats by_hand_half(const Floats& x, DType dtype) {
  Floats out;
  const int bits = exponent_bits_of(dtype);
  for (const float v : x) {
    out.push_back(static_cast<float>(value_of_half(nearest_half(v, bits), bits)));
  }
  return out;
}

Floats by_hand_int8(const Floats& x) {
  Floats out(x.size());
  for (std::size_t first = 0; first < x.size(); first += 256) {
    const std::size_t end = std::min(x.size(), first + 256);
    float most = 0;
    for (std::size_t i = first; i < end; ++i) most = std::max(most, std::abs(x[i]));
    for (std::size_t i = first; i < end; ++i) {
      out[i] = std::nearbyint(x[i] * (127.f / most)) * (most / 127.f);
    }
  }
  return out;
}

Floats by_hand_top_k(const Floats& x, std::size_t k) {
  std::vector<std::size_t> order(x.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return std::abs(x[a]) > std::abs(x[b]); });
  Floats out(x.size());
  for (std::size_t i = 0; i < k; ++i) out[order[i]] = x[order[i]];
  return out;
}

Floats by_hand_sign(const Floats& x) {
  Floats out(x.size());
  for (std::size_t first = 0; first < x.size(); first += 256) {
    const std::size_t end = std::min(x.size(), first + 256);
    double sum = 0;
    for (std::size_t i = first; i < end; ++i) sum += std::abs(x[i]);
    const auto scale = static_cast<float>(sum / static_cast<double>(end - first));
    for (std::size_t i = first; i < end; ++i) out[i] = x[i] < 0 ? -scale : scale;
  }
  return out;
}

// In f64 and without tricks: P by Gram and Schmidt from M Q', then P P^T M.
Floats by_hand_power_sgd(const Floats& m, const Floats& q, int rank) {
  std::vector<std::vector<double>> p;
  for (int j = 0; j < rank; ++j) {
    std::vector<double> column(kRows);
    for (std::int64_t i = 0; i < kRows; ++i) {
      for (std::int64_t c = 0; c < kColumns; ++c) {
        column[i] += double{m[i * kColumns + c]} * q[j * kColumns + c];
      }
    }
    for (const auto& other : p) {
      const double along = std::inner_product(other.begin(), other.end(), column.begin(), 0.0);
      for (std::int64_t i = 0; i < kRows; ++i) column[i] -= along * other[i];
    }
    const double length =
        std::sqrt(std::inner_product(column.begin(), column.end(), column.begin(), 0.0));
    for (double& value : column) value /= length;
    p.push_back(column);
  }
  Floats out(m.size());
  for (std::int64_t c = 0; c < kColumns; ++c) {
    for (std::int64_t i = 0; i < kRows; ++i) {
      double sum = 0;
      for (const auto& column : p) {
        double weight = 0;
        for (std::int64_t k = 0; k < kRows; ++k) weight += column[k] * m[k * kColumns + c];
        sum += column[i] * weight;
      }
      out[i * kColumns + c] = static_cast<float>(sum);
    }
  }
  return out;
}

TEST(Compressor, NoneSendsTheValues) {
  Compressor compressor = whole("none");
  const Floats x = random_values(kCount, 1);
  EXPECT_EQ(decoded(encoded(compressor, x)), x);
  EXPECT_EQ(compressor.residual().count, 0);
}

TEST(Compressor, HalvesAreTheNearest) {
  on_every_instruction_set([] {
    const Floats x = random_values(kCount, 2);
    Compressor bf16 = whole("bf16");
    EXPECT_EQ(decoded(encoded(bf16, x)), by_hand_half(x, DType::kBF16));
    Compressor f16 = whole("f16");
    EXPECT_EQ(decoded(encoded(f16, x)), by_hand_half(x, DType::kF16));
  });
}

TEST(Compressor, Int8RoundsToTheNearestOf255LevelsOfItsBlock) {
  on_every_instruction_set([] {
    const Floats x = random_values(kCount, 3);
    Compressor compressor = whole("int8");
    EXPECT_EQ(decoded(encoded(compressor, x)), by_hand_int8(x));
  });
}

TEST(Compressor, Int8TakesABlockTooSmallForAScaleAsZero) {
  Floats x(kCount, 1e-36f);
  Compressor compressor = whole("int8");
  EXPECT_EQ(decoded(encoded(compressor, x)), Floats(kCount));
  EXPECT_EQ(compressor.residual().as<float>()[0], 1e-36f);
}

TEST(Compressor, TopKSendsTheLargestAndOfEqualOnesTheFirst) {
  Floats x = random_values(kCount, 4);
  // Many ties at the threshold: 94 values travel.
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (i % 3 == 0) x[i] = i % 2 == 0 ? 2.5f : -2.5f;
  }
  Compressor compressor = whole("top_k");
  EXPECT_EQ(decoded(encoded(compressor, x)), by_hand_top_k(x, 94));
}

TEST(Compressor, RandomKSendsOneValueOfEachPartAndOthersInAnotherStep) {
  const Floats x(kCount, 1.f);
  Compressor compressor = whole("random_k");
  Compressor other_rank = whole("random_k");
  std::vector<std::int64_t> times(kCount);
  constexpr int kSteps = 2000;
  Floats earlier;
  for (int step = 0; step < kSteps; ++step) {
    const Bytes payload = encoded(compressor, x, step);
    std::fill_n(compressor.residual().as<float>(), kCount, 0.f);
    const Floats out = decoded(payload);
    ASSERT_EQ(payload, encoded(other_rank, x, step));
    std::fill_n(other_rank.residual().as<float>(), kCount, 0.f);
    ASSERT_EQ(std::count(out.begin(), out.end(), 1.f), 94);
    ASSERT_NE(out, earlier);
    earlier = out;
    for (std::size_t i = 0; i < out.size(); ++i) times[i] += out[i] == 1.f;
    for (std::int64_t part = 0; part < 94; ++part) {
      const Range range = partition(kCount, 94, part);
      ASSERT_EQ(std::count(out.begin() + range.begin, out.begin() + range.end, 1.f), 1);
    }
  }
  // Each has a chance of 1/11 or 1/10 a step: 182 or 200 times, standard deviation 13.
  EXPECT_GT(*std::min_element(times.begin(), times.end()), 110);
  EXPECT_LT(*std::max_element(times.begin(), times.end()), 280);
}

TEST(Compressor, SignSendsTheMeanMagnitudeOfTheBlockWithEachSign) {
  on_every_instruction_set([] {
    const Floats x = random_values(kCount, 5);
    Compressor compressor = whole("sign");
    const Floats actual = decoded(encoded(compressor, x));
    const Floats expected = by_hand_sign(x);
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_NEAR(actual[i] / expected[i], 1, 1e-6) << i;
    }
  });
}

TEST(Compressor, PowerSgdProjectsOnWhatMQSpans) {
  on_every_instruction_set([] {
    const Floats x = random_values(kCount, 6);
    Compressor compressor = whole("power_sgd");
    const float* q = compressor.factor().as<float>();
    const Floats expected = by_hand_power_sgd(x, Floats(q, q + 3 * kColumns), 3);
    const Floats actual = decoded(encoded(compressor, x));
    for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(actual[i], expected[i], 2e-5) << i;
  });
}

// A matrix of rank 2 is found by the first step; one of full rank by the power iteration.
TEST(Compressor, PowerSgdFindsALowRankMatrixAndTheRankTooHighCostsNothing) {
  const Floats u = random_values(kRows * 2, 7);
  const Floats v = random_values(kColumns * 2, 8);
  Floats m(kCount);
  for (std::int64_t i = 0; i < kRows; ++i) {
    for (std::int64_t c = 0; c < kColumns; ++c) {
      m[i * kColumns + c] = u[i] * v[c] + u[kRows + i] * v[kColumns + c];
    }
  }
  Compressor compressor = whole("power_sgd");
  const Floats out = decoded(encoded(compressor, m));
  for (std::size_t i = 0; i < m.size(); ++i) ASSERT_NEAR(out[i], m[i], 1e-4) << i;
  // The column that spans nothing is drawn anew and may find something later.
  const float* unused = compressor.factor().as<float>() + 2 * kColumns;
  EXPECT_NE(unused[0], 0);
  EXPECT_NE(unused[0], unused[1]);
}

TEST(Compressor, PowerSgdGetsCloserToTheBestApproximationStepByStep) {
  // Singular values 10, 5, 2, 1, ... along the unit vectors: the best of rank 3 leaves 1, 0.5, ...
  Floats m(kCount);
  for (std::int64_t i = 0; i < kRows; ++i) {
    m[i * kColumns + i] = i < 3 ? std::array{10.f, 5.f, 2.f}[i] : std::ldexp(1.f, 3 - int(i));
  }
  Compressor compressor = whole("power_sgd");
  double first = 0, last = 0;
  for (int step = 0; step < 20; ++step) {
    const Floats out = decoded(encoded(compressor, m));
    std::fill_n(compressor.residual().as<float>(), kCount, 0.f);
    double squares = 0;
    for (std::size_t i = 0; i < m.size(); ++i) squares += std::pow(double{m[i]} - out[i], 2);
    (step == 0 ? first : last) = std::sqrt(squares);
  }
  const double best = std::sqrt(4.0 / 3.0);  // the root of 1 + 1/4 + 1/16 + ...
  EXPECT_GT(first, 1.05 * best);
  EXPECT_NEAR(last, best, 1e-4);
}

class EveryCodec : public ::testing::TestWithParam<std::string_view> {};

TEST_P(EveryCodec, LosesNothingWhatItHasSentAndWhatItKeepsIsWhatCame) {
  Compressor compressor = whole(GetParam());
  std::vector<double> came(kCount), sent(kCount);
  for (int step = 0; step < 30; ++step) {
    const Floats x = random_values(kCount, 100 + step);
    const Floats out = decoded(encoded(compressor, x, step));
    for (std::size_t i = 0; i < x.size(); ++i) {
      came[i] += x[i];
      sent[i] += out[i];
    }
  }
  const Buffer residual = compressor.residual();
  for (std::size_t i = 0; i < came.size(); ++i) {
    const double kept = residual.count > 0 ? residual.as<float>()[i] : 0;
    ASSERT_NEAR(sent[i] + kept, came[i], 2e-4) << i;
  }
}

TEST_P(EveryCodec, SendsLittleByLittleAllOfAConstantGradient) {
  Compressor compressor = whole(GetParam());
  const Floats x = random_values(kCount, 9);
  std::vector<double> sent(kCount);
  constexpr int kSteps = 2000;
  for (int step = 0; step < kSteps; ++step) {
    const Floats out = decoded(encoded(compressor, x, step));
    for (std::size_t i = 0; i < x.size(); ++i) sent[i] += out[i];
  }
  const float most = std::abs(*std::max_element(
      x.begin(), x.end(), [](float a, float b) { return std::abs(a) < std::abs(b); }));
  for (std::size_t i = 0; i < sent.size(); ++i) {
    EXPECT_NEAR(sent[i] / kSteps, x[i], most * 0.05) << i;
  }
}

TEST_P(EveryCodec, GivesTheSameBytesAndValuesOnEveryInstructionSet) {
  std::vector<Bytes> payloads;
  std::vector<Floats> values;
  on_every_instruction_set([&] {
    Compressor compressor = whole(GetParam());
    encoded(compressor, random_values(kCount, 10), 0);
    payloads.push_back(encoded(compressor, random_values(kCount, 11), 1));
    values.push_back(decoded(payloads.back()));
  });
  for (const Bytes& payload : payloads) EXPECT_EQ(payload, payloads.front());
  for (const Floats& value : values) EXPECT_EQ(value, values.front());
}

TEST_P(EveryCodec, SlicesAreReadAlone) {
  const Floats x = random_values(kCount, 12);
  // Cut inside rows, at rows, and nothing at all.
  for (const Range slice : {Range{0, 100}, {100, 700}, {kColumns, 20 * kColumns}, {5, 6}, {7, 7}}) {
    Compressor compressor(options_of(GetParam()), kShape, slice, 1);
    const Floats mine(x.begin() + slice.begin, x.begin() + slice.end);
    const Floats out = decoded(encoded(compressor, mine), slice.size());
    const float* residual = compressor.residual().as<float>();
    for (std::size_t i = 0; i < mine.size(); ++i) {
      const float kept = compressor.residual().count > 0 ? residual[i] : 0;
      ASSERT_NEAR(out[i] + kept, mine[i], 1e-5) << slice.begin << " " << i;
    }
  }
}

TEST_P(EveryCodec, CompressesF64AsItsF32) {
  const Floats x = random_values(kCount, 13);
  std::vector<double> wide(x.begin(), x.end());
  for (double& value : wide) value *= 1 + 1e-12;
  Compressor narrow_one = whole(GetParam());
  Compressor wide_one = whole(GetParam());
  Bytes payload(wide_one.bytes());
  wide_one.encode(buffer_of(std::span(wide)), 0, payload);
  EXPECT_EQ(payload, encoded(narrow_one, x));
}

TEST_P(EveryCodec, RestoresTheResidualOfAPayloadThatIsDiscarded) {
  Compressor compressor = whole(GetParam());
  encoded(compressor, random_values(kCount, 14), 0);
  const Buffer residual = compressor.residual();
  const Floats before(residual.as<float>(), residual.as<float>() + residual.count);
  compressor.restore_residual(encoded(compressor, Floats(kCount), 1));
  for (std::size_t i = 0; i < before.size(); ++i) {
    ASSERT_NEAR(residual.as<float>()[i], before[i], 1e-5) << i;
  }
}

TEST_P(EveryCodec, DoesNotHideAValueThatIsNotFinite) {
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    Compressor compressor = whole(GetParam());
    Floats x = random_values(kCount, 15);
    x[400] = bad;
    bool seen = false;
    for (int step = 0; step < 200 && !seen; ++step) {
      for (const float value : decoded(encoded(compressor, x, step))) {
        seen = seen || !std::isfinite(value);
      }
    }
    EXPECT_TRUE(seen) << bad;
  }
}

TEST_P(EveryCodec, DecodesAtAnyAddressAndScales) {
  Compressor compressor = whole(GetParam());
  const Bytes payload = encoded(compressor, random_values(kCount, 16));
  Bytes shifted(payload.size() + 1);
  std::copy(payload.begin(), payload.end(), shifted.begin() + 1);
  const Floats once = decoded(payload);
  EXPECT_EQ(decoded(std::span(shifted).subspan(1)), once);
  Floats sum(kCount, 1.f);
  decode_add(payload, kCount, sum.data(), -2);
  for (std::size_t i = 0; i < sum.size(); ++i) ASSERT_NEAR(sum[i], 1 - 2 * once[i], 1e-5);
}

TEST_P(EveryCodec, RefusesWhatIsNoPayloadAndLeavesTheSumAlone) {
  Compressor compressor = whole(GetParam());
  const Bytes good = encoded(compressor, random_values(kCount, 17));
  Floats sum(kCount, 1.f);
  const auto refused = [&](const Bytes& bytes, std::int64_t count) {
    EXPECT_THROW(decode_add(bytes, count, sum.data()), DataError);
    EXPECT_EQ(sum, Floats(kCount, 1.f));
  };
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, std::size_t{15}, kHeader, good.size() - 1}) {
    refused(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)), kCount);
  }
  Bytes longer = good;
  longer.push_back(std::byte{});
  refused(longer, kCount);
  refused(good, kCount - 1);
  refused(good, 0);
  for (std::size_t i = 0; i < kHeader; ++i) {
    Bytes other = good;
    other[i] ^= std::byte{0xFF};
    refused(other, kCount);
  }
}

INSTANTIATE_TEST_SUITE_P(Codecs, EveryCodec,
                         ::testing::ValuesIn(compression_codecs().begin(),
                                             compression_codecs().end()),
                         [](const auto& info) { return std::string(info.param); });

TEST(Compressor, SumsOfSummablePartsDecodeToTheSum) {
  for (const std::string_view codec : compression_codecs()) {
    Compressor first = whole(codec);
    Compressor second = whole(codec);
    // Small whole numbers, which f16 and bf16 add without rounding.
    Floats x(kCount), y(kCount);
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<float>(i % 7);
      y[i] = static_cast<float>(i % 5) - 9;
    }
    Bytes mine = encoded(first, x);
    Bytes theirs = encoded(second, y);
    const Buffer into = first.summable(mine);
    if (into.count == 0) continue;
    Floats expected = decoded(mine);
    decode_add(theirs, kCount, expected.data());
    accumulate(into, second.summable(theirs).data);
    EXPECT_EQ(decoded(mine), expected) << codec;
  }
  Bytes none(whole("sign").bytes());
  EXPECT_EQ(whole("sign").summable(none).count, 0);
  Bytes drawn(whole("random_k").bytes());
  EXPECT_EQ(whole("random_k").summable(drawn).count, 94);
}

TEST(Compressor, PayloadsHaveTheBytesOfTheDocuments) {
  const auto bytes = [](std::string_view codec) { return whole(codec).bytes() - kHeader; };
  EXPECT_EQ(bytes("none"), 943 * 4);
  EXPECT_EQ(bytes("bf16"), 943 * 2);
  EXPECT_EQ(bytes("f16"), 943 * 2);
  EXPECT_EQ(bytes("int8"), 943 + 4 * 4);
  EXPECT_EQ(bytes("top_k"), 94 * 8);
  EXPECT_EQ(bytes("random_k"), 8 + 94 * 4);
  EXPECT_EQ(bytes("power_sgd"), 24 + 3 * (23 + 41) * 4);
  EXPECT_EQ(bytes("sign"), 118 + 4 * 4);
}

// docs/compression.md shows these.
TEST(Compressor, Int8OfThreeValuesIsTheExampleOfTheDocuments) {
  const std::vector<std::int64_t> shape = {3};
  Compressor compressor(options_of("int8"), shape, {0, 3}, 1);
  const unsigned char expected[] = {3, 1, 0, 0, 0,    0,    0,    0,    3,    0,    0,   0,
                                    0, 0, 0, 0, 0x04, 0x02, 0x01, 0x3C, 0x7F, 0xC0, 0x20};
  const Bytes payload = encoded(compressor, {1, -0.5f, 0.25f});
  ASSERT_EQ(payload.size(), sizeof(expected));
  EXPECT_EQ(std::memcmp(payload.data(), expected, sizeof(expected)), 0);
}

TEST(Compressor, PowerSgdSendsVectorsAndRowsThatAreCutAsTheyAre) {
  const Floats x = random_values(kCount, 18);
  const std::vector<std::int64_t> vector = {kCount};
  Compressor flat(options_of("power_sgd"), vector, {0, kCount}, 1);
  EXPECT_EQ(decoded(encoded(flat, x)), x);
  EXPECT_EQ(flat.residual().count, 0);

  const Range slice{kColumns - 3, kCount - 2};  // 3 elements, 21 rows, 39 elements
  Compressor cut(options_of("power_sgd"), kShape, slice, 1);
  const Floats mine(x.begin() + slice.begin, x.begin() + slice.end);
  const Floats out = decoded(encoded(cut, mine), slice.size());
  EXPECT_EQ(cut.bytes() - kHeader, 24 + 4 * (42 + 3 * (21 + 41)));
  EXPECT_TRUE(std::equal(out.begin(), out.begin() + 3, mine.begin()));
  EXPECT_TRUE(std::equal(out.end() - 39, out.end(), mine.end() - 39));
  EXPECT_FALSE(std::equal(out.begin(), out.end(), mine.begin()));
}

TEST(Compressor, RefusesIndicesOfTopKThatDoNotAscendOrLieOutside) {
  Compressor compressor = whole("top_k");
  const Bytes good = encoded(compressor, random_values(kCount, 19));
  Floats sum(kCount);
  for (const auto index : {std::uint32_t{kCount}, ~0u, at<std::uint32_t>(good, kHeader)}) {
    Bytes bad = good;
    std::memcpy(bad.data() + kHeader + 4, &index, 4);
    EXPECT_THROW(decode_add(bad, kCount, sum.data()), DataError) << index;
  }
}

TEST(Compressor, RefusesFactorsThatDoNotMakeTheValues) {
  Compressor compressor = whole("power_sgd");
  const Bytes good = encoded(compressor, random_values(kCount, 20));
  Floats sum(kCount);
  for (const std::size_t field : {std::size_t{0}, std::size_t{8}, std::size_t{16}}) {
    for (const std::uint64_t value :
         {std::uint64_t{kCount}, ~std::uint64_t{0}, std::uint64_t{1} << 62}) {
      Bytes bad = good;
      std::memcpy(bad.data() + kHeader + field, &value, 8);
      EXPECT_THROW(decode_add(bad, kCount, sum.data()), DataError) << field << " " << value;
    }
  }
}

// 40 * 40 of 943 values, in as many bytes as they would take if less than nothing were left over.
TEST(Compressor, RefusesFactorsOfMoreValuesThanThereAre) {
  Compressor compressor = whole("power_sgd");
  Bytes bad = encoded(compressor, random_values(kCount, 21));
  bad.resize(kHeader + 24 + (943 - 1600 + 10 * 80) * 4);
  const std::uint32_t rank = 10;
  const std::uint64_t sizes[] = {40, 40, 0};
  std::memcpy(bad.data() + 4, &rank, sizeof(rank));
  std::memcpy(bad.data() + kHeader, sizes, sizeof(sizes));
  Floats sum(kCount);
  EXPECT_THROW(decode_add(bad, kCount, sum.data()), DataError);
}

TEST(Compressor, SaysWhatIsWrongWithItsOptions) {
  const auto error_of = [](const CompressionOptions& options) -> std::string {
    try {
      check(options);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(error_of({.codec = "zip"}),
            "compression: the codec must be one of \"none\", \"bf16\", \"f16\", \"int8\", "
            "\"top_k\", \"random_k\", \"power_sgd\", \"sign\", got \"zip\"");
  EXPECT_THAT(error_of({.ratio = 0}), ::testing::HasSubstr("above 0 and up to 1, got 0"));
  EXPECT_THAT(error_of({.ratio = std::nan("")}), ::testing::HasSubstr("got nan"));
  EXPECT_THAT(error_of({.rank = 65}), ::testing::HasSubstr("from 1 to 64, got 65"));
  EXPECT_EQ(error_of({}), "");
  EXPECT_THROW(Compressor({}, kShape, {0, kCount + 1}, 0), UsageError);
  Compressor compressor = whole("int8");
  Bytes payload(compressor.bytes() - 1);
  Floats x(kCount);
  EXPECT_THROW(compressor.encode(buffer_of(std::span(x)), 0, payload), UsageError);
}

}  // namespace
}  // namespace trireme
