#include "trireme/kernels/compress/top_k.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <vector>

#include "trireme/kernels/compress/wire.h"

namespace trireme::compress {

namespace {

// As integers, which order magnitudes like the numbers and NaN above them.
std::uint32_t magnitude(float x) {
  return std::bit_cast<std::uint32_t>(x) & 0x7FFFFFFFu;
}

// What travels: all above `least`, and of those equal to it the first `ties`.
struct Threshold {
  std::uint32_t least = 0;
  std::int64_t ties = 0;
};

// Counts by the leading bits find the narrow band in which the k-th lies; only that is sorted.
Threshold threshold_of(const float* x, std::int64_t count, std::int64_t k) {
  constexpr int kShift = 20;
  std::array<std::int64_t, (1u << (31 - kShift))> counts{};
  for (std::int64_t i = 0; i < count; ++i) ++counts[magnitude(x[i]) >> kShift];
  std::size_t band = counts.size() - 1;
  std::int64_t above = 0;
  while (above + counts[band] < k) above += counts[band--];

  std::vector<std::uint32_t> inside;
  inside.reserve(static_cast<std::size_t>(counts[band]));
  for (std::int64_t i = 0; i < count; ++i) {
    if (magnitude(x[i]) >> kShift == band) inside.push_back(magnitude(x[i]));
  }
  const auto last = inside.begin() + (k - above - 1);
  std::nth_element(inside.begin(), last, inside.end(), std::greater<>());
  const std::uint32_t least = *last;
  const auto greater = std::count_if(inside.begin(), last, [=](auto m) { return m > least; });
  return {least, k - above - greater};
}

}  // namespace

void TopK::encode(const float* x, std::int64_t count, std::int64_t k, std::byte* body) {
  if (k == 0) return;
  auto [least, ties] = threshold_of(x, count, k);
  std::byte* indices = body;
  std::byte* values = body + k * sizeof(std::uint32_t);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t m = magnitude(x[i]);
    if (m < least || (m == least && ties-- <= 0)) continue;
    store(indices, static_cast<std::uint32_t>(i));
    store(values, x[i]);
    indices += sizeof(std::uint32_t);
    values += sizeof(float);
  }
}

bool TopK::valid(const std::byte* body, std::int64_t count, std::int64_t k) {
  std::int64_t before = -1;
  for (std::int64_t i = 0; i < k; ++i) {
    const auto index = load<std::uint32_t>(body + i * sizeof(std::uint32_t));
    if (index <= before || index >= count) return false;
    before = index;
  }
  return true;
}

void TopK::add(const std::byte* body, std::int64_t k, float* sum, float factor) {
  const std::byte* values = body + k * sizeof(std::uint32_t);
  for (std::int64_t i = 0; i < k; ++i) {
    const auto index = load<std::uint32_t>(body + i * sizeof(std::uint32_t));
    sum[index] += load<float>(values + i * sizeof(float)) * factor;
  }
}

}  // namespace trireme::compress
