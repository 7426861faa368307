// Against three nested loops in f64.
#include "trireme/kernels/matrix_product.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/kernels/targets.h"
#include "trireme/base/error.h"
#include "trireme/base/random.h"

namespace trireme {
namespace {

using testing::ThrowsMessage;

struct Sizes {
  std::int64_t rows, columns, depth;
};

// Around the sizes of tiles and blocks.
const Sizes kSizes[] = {{1, 1, 1},   {6, 16, 4},  {7, 17, 3},   {5, 33, 257},
                        {97, 40, 5}, {7, 769, 5}, {13, 20, 520}};

template <class T>
std::vector<T> random_values(std::int64_t count, std::uint64_t seed) {
  const CounterRandom random(seed);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(random.normal(i));
  return values;
}

template <class T>
double element(const MatrixView& m, std::int64_t i, std::int64_t j) {
  return m.values.as<T>()[i * m.row_stride + j * m.column_stride];
}

// What an element of out must be, and the size of the terms that it is rounded with.
struct Wanted {
  double value;
  double magnitude;
};

template <class T>
Wanted wanted(const MatrixView& a, const MatrixView& b, const ProductRule& rule, double before,
              std::int64_t i, std::int64_t j) {
  double sum = 0, magnitude = std::abs(rule.out_scale * before);
  for (std::int64_t k = 0; k < a.columns; ++k) {
    const double term = element<T>(a, i, k) * element<T>(b, k, j);
    sum += term;
    magnitude += std::abs(rule.scale * term);
  }
  return {rule.scale * sum + rule.out_scale * before, magnitude};
}

// In all eight combinations of rows and columns of out, a and b that are contiguous.
template <class T>
void expect_product(const Sizes& size, const ProductRule& rule, double tolerance) {
  for (int layout = 0; layout < 8; ++layout) {
    auto values_of_a = random_values<T>(size.rows * size.depth, 1);
    auto values_of_b = random_values<T>(size.depth * size.columns, 2);
    const auto before = random_values<T>(size.rows * size.columns, 3);
    auto after = before;
    const auto view = [](std::vector<T>& values, std::int64_t rows, std::int64_t columns,
                         bool by_columns) {
      const Buffer buffer = buffer_of(std::span(values));
      return by_columns ? row_major(buffer, columns, rows).transposed()
                        : row_major(buffer, rows, columns);
    };
    const MatrixView a = view(values_of_a, size.rows, size.depth, layout & 1);
    const MatrixView b = view(values_of_b, size.depth, size.columns, layout & 2);
    const MatrixView out = view(after, size.rows, size.columns, layout & 4);
    matrix_product(out, a, b, rule);
    for (std::int64_t i = 0; i < size.rows; ++i) {
      for (std::int64_t j = 0; j < size.columns; ++j) {
        const auto at = static_cast<std::size_t>(i * out.row_stride + j * out.column_stride);
        const Wanted good = wanted<T>(a, b, rule, before[at], i, j);
        ASSERT_NEAR(after[at], good.value, tolerance * good.magnitude)
            << size.rows << " x " << size.columns << " x " << size.depth << ", layout " << layout;
      }
    }
  }
}

TEST(MatrixProduct, AgreesWithNestedLoops) {
  on_every_instruction_set([] {
    for (const Sizes& size : kSizes) {
      expect_product<float>(size, {}, 2e-6);
      expect_product<double>(size, {.scale = -0.5, .out_scale = 3}, 4e-15);
    }
  });
}

TEST(MatrixProduct, ScalesAloneIfThereIsNothingToSum) {
  std::vector<float> out = {1, 2};
  const MatrixView view = row_major(buffer_of(std::span(out)), 1, 2);
  matrix_product(view, {{}, 1, 0, 0, 1}, {{}, 0, 2, 2, 1}, {.out_scale = 3});
  EXPECT_THAT(out, testing::ElementsAre(3, 6));
}

TEST(MatrixProduct, DoesNotReadWhatItOverwrites) {
  std::vector<float> out = {std::nanf("")};
  std::vector<float> a = {2}, b = {3};
  matrix_product(row_major(buffer_of(std::span(out)), 1, 1),
                 row_major(buffer_of(std::span(a)), 1, 1),
                 row_major(buffer_of(std::span(b)), 1, 1));
  EXPECT_EQ(out[0], 6);
}

TEST(MatrixProduct, OfASymmetricMatrixHasTheBitsOfTheWholeProduct) {
  on_every_instruction_set([] {
    for (const std::int64_t rows : {1, 6, 40, 101, 200}) {
      auto x = random_values<float>(rows * 300, 7);
      const MatrixView view = row_major(buffer_of(std::span(x)), rows, 300);
      std::vector<float> half(static_cast<std::size_t>(rows * rows)), whole(half);
      matrix_product(row_major(buffer_of(std::span(half)), rows, rows), view, view.transposed(),
                     {.is_symmetric = true});
      matrix_product(row_major(buffer_of(std::span(whole)), rows, rows), view, view.transposed());
      EXPECT_EQ(half, whole) << rows;
    }
  });
}

TEST(MatrixProduct, RefusesShapesThatDoNotFit) {
  std::vector<float> values(6);
  const Buffer six = buffer_of(std::span(values));
  EXPECT_THAT([&] { row_major(six, 2, 2); },
              ThrowsMessage<UsageError>("row_major: a matrix of [2, 2] has 4 elements, got 6"));
  const MatrixView a = row_major(six, 2, 3);
  EXPECT_THAT([&] { matrix_product(a, a, a); },
              ThrowsMessage<UsageError>(
                  "matrix_product: [2, 3] cannot be the product of [2, 3] and [2, 3]"));
}

}  // namespace
}  // namespace trireme
