#include "trireme/kernels/compress/power_sgd.h"

#include <algorithm>
#include <cmath>

#include "trireme/base/random.h"
#include "trireme/kernels/compress/linear.h"
#include "trireme/kernels/compress/wire.h"

namespace trireme::compress {

namespace {

constexpr std::size_t kSizes = 3 * sizeof(std::uint64_t);

float norm(const float* x, std::int64_t count) {
  return std::sqrt(dot(x, x, count));
}

// Makes column j of P orthogonal to those before it and of length 1, or zero if nothing but
// rounding is left of it; false then. A column of NaN stays one.
bool orthogonalize(float* p, std::int64_t j, std::int64_t rows) {
  constexpr float kRounding = 1e-5f;
  float* const column = p + j * rows;
  const float before = norm(column, rows);
  // Twice is enough (Parlett 1998, section 6.9).
  for (int pass = 0; pass < 2; ++pass) {
    for (std::int64_t l = 0; l < j; ++l) {
      const float* const other = p + l * rows;
      add_scaled(column, other, -dot(other, column, rows), rows);
    }
  }
  const float left = norm(column, rows);
  if (left <= before * kRounding) {
    std::fill_n(column, rows, 0.f);
    return false;
  }
  for (std::int64_t i = 0; i < rows; ++i) column[i] /= left;
  return true;
}

}  // namespace

LowRank LowRank::of(std::span<const std::int64_t> shape, Range slice, std::int64_t rank) {
  LowRank result{.count = slice.size(), .head = slice.size()};
  std::int64_t columns = 1;
  for (std::size_t d = 1; d < shape.size(); ++d) columns *= shape[d];
  if (shape.empty() || columns == 0) return result;
  const std::int64_t first = (slice.begin + columns - 1) / columns;
  const std::int64_t rows = slice.end / columns - first;
  if (rows <= 0 || rank * (rows + columns) >= rows * columns) return result;
  return {.count = slice.size(),
          .rows = rows,
          .columns = columns,
          .head = first * columns - slice.begin,
          .rank = rank};
}

std::uint64_t LowRank::bytes() const {
  return kSizes +
         static_cast<std::uint64_t>(count - matrix() + rank * (rows + columns)) * sizeof(float);
}

std::optional<LowRank> LowRank::parse(std::span<const std::byte> body, std::int64_t count,
                                      std::int64_t rank) {
  if (body.size() < kSizes) return std::nullopt;
  const auto most = static_cast<std::uint64_t>(count);
  const auto rows = load<std::uint64_t>(body.data());
  const auto columns = load<std::uint64_t>(body.data() + sizeof(std::uint64_t));
  const auto head = load<std::uint64_t>(body.data() + 2 * sizeof(std::uint64_t));
  if (rows > most || columns > most || head > most) return std::nullopt;
  if (rows > 0 && columns > most / rows) return std::nullopt;
  if (head > most - rows * columns) return std::nullopt;
  const LowRank result{.count = count,
                       .rows = static_cast<std::int64_t>(rows),
                       .columns = static_cast<std::int64_t>(columns),
                       .head = static_cast<std::int64_t>(head),
                       .rank = rank};
  if (rank > std::min(result.rows, result.columns)) return std::nullopt;
  if (body.size() != result.bytes()) return std::nullopt;
  return result;
}

void LowRank::encode(const float* x, std::span<float> q, std::uint64_t seed,
                     std::byte* body) const {
  store(body, static_cast<std::uint64_t>(rows));
  store(body + sizeof(std::uint64_t), static_cast<std::uint64_t>(columns));
  store(body + 2 * sizeof(std::uint64_t), static_cast<std::uint64_t>(head));
  std::byte* out = body + kSizes;
  const auto append = [&out](const float* values, std::int64_t n) {
    store_all(out, values, n);
    out += n * sizeof(float);
  };
  append(x, head);
  append(x + head + matrix(), tail());

  std::vector<float> p(static_cast<std::size_t>(rank * rows));
  project(x, q.data(), p.data());
  const auto spanned = orthonormalize(p.data());
  project_back(x, p.data(), q.data());
  append(p.data(), rank * rows);
  append(q.data(), rank * columns);
  for (const std::int64_t j : spanned) draw(q.data(), j, seed);
}

void LowRank::project(const float* x, const float* q, float* p) const {
  const float* const m = x + head;
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < rank; ++j) {
      p[j * rows + i] = dot(m + i * columns, q + j * columns, columns);
    }
  }
}

std::vector<std::int64_t> LowRank::orthonormalize(float* p) const {
  std::vector<std::int64_t> spanned;
  for (std::int64_t j = 0; j < rank; ++j) {
    if (!orthogonalize(p, j, rows)) spanned.push_back(j);
  }
  return spanned;
}

void LowRank::project_back(const float* x, const float* p, float* q) const {
  const float* const m = x + head;
  std::fill_n(q, rank * columns, 0.f);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < rank; ++j) {
      add_scaled(q + j * columns, m + i * columns, p[j * rows + i], columns);
    }
  }
}

void LowRank::add_product(const std::byte* p, const std::byte* q, float* sum, float factor) const {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < rank; ++j) {
      const auto weight = load<float>(p + (j * rows + i) * sizeof(float));
      add_scaled(sum + head + i * columns, q + j * columns * sizeof(float), weight * factor,
                 columns);
    }
  }
}

void LowRank::add(const std::byte* body, float* sum, float factor) const {
  const std::byte* in = body + kSizes;
  add_scaled(sum, in, factor, head);
  in += head * sizeof(float);
  add_scaled(sum + head + matrix(), in, factor, tail());
  in += tail() * sizeof(float);
  add_product(in, in + rank * rows * sizeof(float), sum, factor);
}

void LowRank::draw(float* q, std::int64_t row, std::uint64_t seed) const {
  const CounterRandom random(seed);
  for (std::int64_t i = row * columns; i < (row + 1) * columns; ++i) {
    q[i] = static_cast<float>(random.normal(static_cast<std::uint64_t>(i)));
  }
}

}  // namespace trireme::compress
