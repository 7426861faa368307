#include "trireme/kernels/reduce.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tests/kernels/half.h"
#include "tests/kernels/targets.h"
#include "trireme/base/error.h"
#include "trireme/base/random.h"

namespace trireme {
namespace {

constexpr DType kDTypes[] = {DType::kF32, DType::kF64, DType::kF16, DType::kBF16,
                             DType::kI32, DType::kI64, DType::kU8};

// One slow element of the result, by recursion over the tree.
template <class T>
T combine(T a, T b, ReduceOp op) {
  if constexpr (std::is_floating_point_v<T>) {
    if (op == ReduceOp::kMin || op == ReduceOp::kMax) {
      if (std::isnan(a)) return a;
      if (std::isnan(b)) return b;
    }
  }
  if (op == ReduceOp::kMin) return b < a ? b : a;
  if (op == ReduceOp::kMax) return b > a ? b : a;
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  }
  return a + b;
}

// Evaluates the terms [first, last), divided as the tree divides their virtual workers.
template <class T>
T evaluate(const ReductionTree& tree, const std::vector<T>& terms, int first, int last,
           ReduceOp op) {
  if (last - first == 1) return terms[first];
  const auto begin_of = [&](int t) {
    return t == static_cast<int>(terms.size()) ? tree.virtual_workers()
                                               : tree.terms()[t].index << tree.terms()[t].level;
  };
  const std::int64_t workers = begin_of(last) - begin_of(first);
  const std::int64_t left =
      static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(workers - 1)));
  int cut = first;
  while (begin_of(cut) < begin_of(first) + left) ++cut;
  return combine(evaluate(tree, terms, first, cut, op), evaluate(tree, terms, cut, last, op), op);
}

template <class T>
T reference(const ReductionTree& tree, const std::vector<T>& terms, ReduceOp op) {
  T result = evaluate(tree, terms, 0, static_cast<int>(terms.size()), op);
  if constexpr (std::is_floating_point_v<T>) {
    if (op == ReduceOp::kMean) result /= static_cast<T>(tree.virtual_workers());
  }
  return result;
}

template <class T>
T read(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

template <class T>
void expect_element(const ReductionTree& tree, const std::vector<const std::byte*>& terms,
                    const std::byte* out, ReduceOp op, std::size_t i) {
  std::vector<T> values;
  for (const std::byte* term : terms) values.push_back(read<T>(term + i * sizeof(T)));
  const T wanted = reference(tree, values, op);
  const T got = read<T>(out + i * sizeof(T));
  if (wanted != wanted) {
    ASSERT_NE(got, got) << "element " << i;
  } else {
    ASSERT_EQ(std::memcmp(&wanted, &got, sizeof(T)), 0)
        << "element " << i << ": wanted " << +wanted << ", got " << +got;
  }
}

void expect_half(const ReductionTree& tree, const std::vector<const std::byte*>& terms,
                 const std::byte* out, ReduceOp op, std::size_t i, int exponent_bits) {
  std::vector<float> values;
  for (const std::byte* term : terms) {
    values.push_back(
        static_cast<float>(value_of_half(read<std::uint16_t>(term + 2 * i), exponent_bits)));
  }
  const float sum = reference(tree, values, op);
  const std::uint16_t got = read<std::uint16_t>(out + 2 * i);
  if (std::isnan(sum)) {
    ASSERT_TRUE(std::isnan(value_of_half(got, exponent_bits))) << "element " << i;
  } else {
    ASSERT_EQ(got, nearest_half(sum, exponent_bits)) << "element " << i << " of sum " << sum;
  }
}

void expect_reduced(const ReductionTree& tree, const std::vector<const std::byte*>& terms,
                    const std::byte* out, std::int64_t count, DType dtype, ReduceOp op) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    switch (dtype) {
      case DType::kF32:
        expect_element<float>(tree, terms, out, op, i);
        break;
      case DType::kF64:
        expect_element<double>(tree, terms, out, op, i);
        break;
      case DType::kI32:
        expect_element<std::int32_t>(tree, terms, out, op, i);
        break;
      case DType::kI64:
        expect_element<std::int64_t>(tree, terms, out, op, i);
        break;
      case DType::kU8:
        expect_element<std::uint8_t>(tree, terms, out, op, i);
        break;
      case DType::kF16:
      case DType::kBF16:
        expect_half(tree, terms, out, op, i, exponent_bits_of(dtype));
        break;
    }
    if (testing::Test::HasFatalFailure()) return;
  }
}

// Bytes of any pattern for integers; floats of mixed size, with some NaN, infinities and denormals.
std::vector<std::byte> random_values(std::int64_t count, DType dtype, std::uint64_t stream) {
  const CounterRandom random(7, stream);
  const std::size_t size = size_of(dtype);
  std::vector<std::byte> bytes(static_cast<std::size_t>(count) * size);
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint64_t bits = random.bits(static_cast<std::uint64_t>(i));
    const bool as_is = bits % 16 == 0 || !is_floating(dtype);
    const double value =
        std::ldexp(random.normal(static_cast<std::uint64_t>(i)), static_cast<int>(bits >> 61) - 4);
    if (!as_is) {
      if (dtype == DType::kF32) bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
      if (dtype == DType::kF64) bits = std::bit_cast<std::uint64_t>(value);
      if (size == 2) bits = nearest_half(value, exponent_bits_of(dtype));
    } else if (is_floating(dtype)) {
      bits = std::rotl(bits, 17);
    }
    std::memcpy(bytes.data() + static_cast<std::size_t>(i) * size, &bits, size);
  }
  return bytes;
}

// Terms and outs for one call, each `skew` bytes off the alignment that vectors give.
struct Case {
  std::vector<std::vector<std::byte>> terms;
  std::vector<std::vector<std::byte>> outs;
  std::vector<const void*> term_pointers;
  std::vector<const std::byte*> term_bytes;
  std::vector<void*> out_pointers;

  Case(const ReductionTree& tree, std::int64_t count, DType dtype, int out_count,
       std::size_t skew) {
    for (std::size_t t = 0; t < tree.terms().size(); ++t) {
      terms.push_back(random_values(count, dtype, t));
      terms.back().insert(terms.back().begin(), skew, std::byte{0});
      term_bytes.push_back(terms.back().data() + skew);
      term_pointers.push_back(term_bytes.back());
    }
    for (int o = 0; o < out_count; ++o) {
      outs.emplace_back(static_cast<std::size_t>(count) * size_of(dtype) + skew + 1, std::byte{42});
      out_pointers.push_back(outs.back().data() + skew);
    }
  }
};

void check(int workers, int ranks, std::int64_t count, DType dtype, ReduceOp op,
           std::size_t skew = 0) {
  SCOPED_TRACE(testing::Message() << workers << " virtual workers on " << ranks << " ranks, "
                                  << count << " " << name_of(dtype) << ", " << name_of(op));
  const ReductionTree tree(workers, ranks);
  Case c(tree, count, dtype, 2, skew);
  tree_reduce(c.out_pointers, c.term_pointers, tree, count, dtype, op);
  for (int o = 0; o < 2; ++o) {
    expect_reduced(tree, c.term_bytes, static_cast<const std::byte*>(c.out_pointers[o]), count,
                   dtype, op);
    ASSERT_EQ(c.outs[o].back(), std::byte{42}) << "wrote past the end";
  }
}

TEST(TreeReduce, EqualsRecursionOverTheTreeForEveryTypeAndOperation) {
  for (const DType dtype : kDTypes) {
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMean, ReduceOp::kMin, ReduceOp::kMax}) {
      if (op == ReduceOp::kMean && !is_floating(dtype)) continue;
      for (const int ranks : {1, 2, 3, 4, 5, 7}) check(ranks, ranks, 1000, dtype, op);
      for (const std::int64_t count : {0, 1, 3, 17}) check(3, 3, count, dtype, op);
    }
  }
}

TEST(TreeReduce, EqualsRecursionForEveryShapeOfTree) {
  for (int workers = 1; workers <= 13; ++workers) {
    for (int ranks = 1; ranks <= workers; ++ranks) {
      check(workers, ranks, 131, DType::kF32, ReduceOp::kSum);
      check(workers, ranks, 131, DType::kBF16, ReduceOp::kMean);
    }
  }
}

TEST(TreeReduce, EqualsRecursionAcrossManyTiles) {
  for (const DType dtype : kDTypes) {
    check(2, 2, 100'003, dtype, ReduceOp::kSum);
    check(6, 6, 100'003, dtype, ReduceOp::kSum);
  }
}

TEST(TreeReduce, NeedsNoAlignmentButThatOfAnElement) {
  for (const DType dtype : kDTypes) {
    for (const std::size_t elements : {1, 3, 8}) {
      const std::size_t skew = elements * size_of(dtype);
      check(4, 4, 1000, dtype, ReduceOp::kSum, skew);
      check(5, 5, 1000, dtype, ReduceOp::kSum, skew);
    }
  }
}

TEST(TreeReduce, MayWriteToItsOwnTerms) {
  for (const int ranks : {1, 2, 3, 4, 6}) {
    const ReductionTree tree(ranks, ranks);
    Case apart(tree, 5000, DType::kF32, 1, 0);
    tree_reduce(apart.out_pointers, apart.term_pointers, tree, 5000, DType::kF32, ReduceOp::kSum);
    std::vector<void*> outs;
    for (auto& term : apart.terms) outs.push_back(term.data());
    tree_reduce(outs, apart.term_pointers, tree, 5000, DType::kF32, ReduceOp::kSum);
    for (const void* out : outs) {
      EXPECT_EQ(std::memcmp(out, apart.out_pointers[0], 5000 * 4), 0) << ranks << " ranks";
    }
  }
}

TEST(TreeReduce, StreamsLargeAlignedOutsToTheSameBits) {
  const ReductionTree tree(3, 3);
  const std::int64_t count = (std::int64_t{3} << 20) + 5;
  std::vector<float> memory(static_cast<std::size_t>(4 * count + 64));
  auto* base = reinterpret_cast<float*>((reinterpret_cast<std::uintptr_t>(memory.data()) + 63) &
                                        ~std::uintptr_t{63});
  const std::int64_t stride = count + 11;  // a multiple of 16 floats
  ASSERT_EQ(stride % 16, 0);
  const CounterRandom random(3);
  for (std::int64_t i = 0; i < 2 * stride; ++i) {
    base[i] = static_cast<float>(random.uniform(static_cast<std::uint64_t>(i)));
  }
  const void* const terms[] = {base, base + stride, base};
  void* const outs[] = {base + 2 * stride};
  tree_reduce(outs, terms, tree, count, DType::kF32, ReduceOp::kMean);
  for (std::int64_t i = 0; i < count; ++i) {
    ASSERT_EQ(base[2 * stride + i], ((base[i] + base[stride + i]) + base[i]) / 3.0f) << i;
  }
}

TEST(TreeReduce, GivesTheSameBitsOnEveryInstructionSet) {
  for (const DType dtype : kDTypes) {
    for (const int ranks : {2, 3, 4, 9}) {
      const ReductionTree tree(ranks, ranks);
      std::vector<std::byte> first;
      on_every_instruction_set([&] {
        Case c(tree, 1003, dtype, 1, 0);
        tree_reduce(c.out_pointers, c.term_pointers, tree, 1003, dtype, ReduceOp::kSum);
        if (first.empty()) first = c.outs[0];
        EXPECT_EQ(first, c.outs[0]) << ranks << " ranks, " << name_of(dtype);
      });
    }
  }
}

TEST(TreeReduce, RoundsEveryHalfOnceAndToNearestEven) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    // Every value plus a sixteenth of a step, half a step and similar fractions: x + y with small
    // y.
    const int bits = exponent_bits_of(dtype);
    std::vector<std::uint16_t> x(65536), y(65536), out(65536);
    for (int i = 0; i < 65536; ++i) {
      x[i] = static_cast<std::uint16_t>(i);
      const double step = std::ldexp(value_of_half(i & 0x7FFF, bits), -(16 - bits));
      y[i] = nearest_half(std::isfinite(step) ? step * (1 + i % 3) : 0.0, bits);
    }
    const ReductionTree tree(2, 2);
    const void* const terms[] = {x.data(), y.data()};
    void* const outs[] = {out.data()};
    tree_reduce(outs, terms, tree, 65536, dtype, ReduceOp::kSum);
    for (std::size_t i = 0; i < 65536; ++i) {
      const float sum = static_cast<float>(value_of_half(x[i], bits)) +
                        static_cast<float>(value_of_half(y[i], bits));
      if (std::isnan(sum)) {
        ASSERT_TRUE(std::isnan(value_of_half(out[i], bits))) << i;
      } else {
        ASSERT_EQ(out[i], nearest_half(sum, bits)) << name_of(dtype) << " " << i;
      }
    }
  }
}

#if defined(__x86_64__)
TEST(TreeReduce, HasTheSameHalvesWhereTheProcessorFlushesDenormals) {
  std::vector<std::uint16_t> x(65536), y(65536);
  for (int i = 0; i < 65536; ++i) {
    x[i] = static_cast<std::uint16_t>(i);
    y[i] = static_cast<std::uint16_t>(i * 40503);
  }
  const ReductionTree tree(2, 2);
  const void* const terms[] = {x.data(), y.data()};
  const auto sum = [&] {
    std::vector<std::uint16_t> out(65536);
    void* const outs[] = {out.data()};
    tree_reduce(outs, terms, tree, 65536, DType::kF16, ReduceOp::kSum);
    return out;
  };
  on_every_instruction_set([&] {
    const std::vector<std::uint16_t> wanted = sum();
    constexpr unsigned kFlushBothWays = 0x8040;
    const unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | kFlushBothWays);
    const std::vector<std::uint16_t> got = sum();
    __builtin_ia32_ldmxcsr(before);
    for (int i = 0; i < 65536; ++i) {
      ASSERT_EQ(got[i], wanted[i]) << std::hex << x[i] << " + " << y[i];
    }
  });
}
#endif

TEST(TreeReduce, RefusesTheMeanOfIntegers) {
  std::int32_t x = 0;
  void* const outs[] = {&x};
  const void* const terms[] = {&x};
  EXPECT_THROW(tree_reduce(outs, terms, ReductionTree(1, 1), 1, DType::kI32, ReduceOp::kMean),
               UsageError);
}

TEST(TreeReduce, RefusesAWrongNumberOfTerms) {
  float x = 0;
  void* const outs[] = {&x};
  const void* const terms[] = {&x};
  EXPECT_THROW(tree_reduce(outs, terms, ReductionTree(2, 2), 1, DType::kF32, ReduceOp::kSum),
               UsageError);
}

TEST(Accumulate, AddsInPlaceForEveryType) {
  for (const DType dtype : kDTypes) {
    const ReductionTree tree(2, 2);
    Case c(tree, 1000, dtype, 1, 0);
    std::memcpy(c.out_pointers[0], c.term_pointers[0], 1000 * size_of(dtype));
    accumulate({c.out_pointers[0], 1000, dtype}, c.term_pointers[1]);
    expect_reduced(tree, c.term_bytes, c.outs[0].data(), 1000, dtype, ReduceOp::kSum);
  }
}

}  // namespace
}  // namespace trireme
