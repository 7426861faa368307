#include "trireme/kernels/softmax.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "trireme/base/error.h"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "trireme/kernels/softmax.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace trireme::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

template <class T>
using Tag = hn::ScalableTag<T>;

// Calls body(i) for whole vectors of [0, count) and rest(i) for the elements that are left.
template <class T, class Body, class Rest>
HWY_INLINE void for_each_vector(std::size_t count, const Body& body, const Rest& rest) {
  const std::size_t lanes = hn::Lanes(Tag<T>());
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) body(i);
  for (; i < count; ++i) rest(i);
}

template <class T>
T largest_of(const T* x, std::size_t count) {
  const Tag<T> d;
  auto vectors = hn::Set(d, x[0]);
  T largest = x[0];
  for_each_vector<T>(
      count, [&](std::size_t i) { vectors = hn::Max(vectors, hn::LoadU(d, x + i)); },
      [&](std::size_t i) { largest = x[i] > largest ? x[i] : largest; });
  return std::fmax(largest, hn::GetLane(hn::MaxOfLanes(d, vectors)));
}

// x[i] = exp(scale * (x[i] - shift)); returns the sum.
template <class T>
T exponentials(T* x, std::size_t count, T shift, T scale) {
  const Tag<T> d;
  const auto shifts = hn::Set(d, shift);
  const auto scales = hn::Set(d, scale);
  auto sums = hn::Zero(d);
  T sum = 0;
  for_each_vector<T>(
      count,
      [&](std::size_t i) {
        const auto e = hn::Exp(d, hn::Mul(hn::Sub(hn::LoadU(d, x + i), shifts), scales));
        hn::StoreU(e, d, x + i);
        sums = hn::Add(sums, e);
      },
      [&](std::size_t i) {
        x[i] = std::exp((x[i] - shift) * scale);
        sum += x[i];
      });
  return sum + hn::GetLane(hn::SumOfLanes(d, sums));
}

template <class T>
T sum_of(const T* x, std::size_t count) {
  const Tag<T> d;
  auto sums = hn::Zero(d);
  T sum = 0;
  for_each_vector<T>(
      count, [&](std::size_t i) { sums = hn::Add(sums, hn::LoadU(d, x + i)); },
      [&](std::size_t i) { sum += x[i]; });
  return sum + hn::GetLane(hn::SumOfLanes(d, sums));
}

template <class T>
T dot(const T* x, const T* y, std::size_t count) {
  const Tag<T> d;
  auto sums = hn::Zero(d);
  T sum = 0;
  for_each_vector<T>(
      count,
      [&](std::size_t i) { sums = hn::MulAdd(hn::LoadU(d, x + i), hn::LoadU(d, y + i), sums); },
      [&](std::size_t i) { sum += x[i] * y[i]; });
  return sum + hn::GetLane(hn::SumOfLanes(d, sums));
}

// x[i] = factor * x[i] + addend
template <class T>
void scale_and_add(T* x, std::size_t count, T factor, T addend) {
  const Tag<T> d;
  const auto factors = hn::Set(d, factor);
  const auto addends = hn::Set(d, addend);
  for_each_vector<T>(
      count,
      [&](std::size_t i) {
        hn::StoreU(hn::MulAdd(hn::LoadU(d, x + i), factors, addends), d, x + i);
      },
      [&](std::size_t i) { x[i] = x[i] * factor + addend; });
}

template <class T>
void zero(T* x, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) x[i] = 0;
}

template <class T>
void softmax_rows(T* x, std::size_t columns, const std::int32_t* begin, const std::int32_t* end,
                  std::size_t rows, double scale) {
  for (std::size_t row = 0; row < rows; ++row, x += columns) {
    const auto first = static_cast<std::size_t>(begin[row]);
    const auto last = static_cast<std::size_t>(end[row]);
    T* const part = x + first;
    const std::size_t count = last - first;
    // The scale is positive: the largest score stays the largest.
    const T sum = exponentials<T>(part, count, largest_of(part, count), static_cast<T>(scale));
    scale_and_add<T>(part, count, 1 / sum, 0);
    zero(x, first);
    zero(x + last, columns - last);
  }
}

template <class T>
void softmax_rows_backward(T* gradient, const T* probabilities, std::size_t columns,
                           const std::int32_t* begin, const std::int32_t* end, std::size_t rows,
                           double scale) {
  const Tag<T> d;
  for (std::size_t row = 0; row < rows; ++row, gradient += columns, probabilities += columns) {
    const auto first = static_cast<std::size_t>(begin[row]);
    const auto last = static_cast<std::size_t>(end[row]);
    T* const g = gradient + first;
    const T* const p = probabilities + first;
    const T mean = dot(g, p, last - first);
    const auto means = hn::Set(d, mean);
    const auto scales = hn::Set(d, static_cast<T>(scale));
    for_each_vector<T>(
        last - first,
        [&](std::size_t i) {
          const auto scaled = hn::Mul(hn::LoadU(d, p + i), scales);
          hn::StoreU(hn::Mul(hn::Sub(hn::LoadU(d, g + i), means), scaled), d, g + i);
        },
        [&](std::size_t i) { g[i] = (g[i] - mean) * (p[i] * static_cast<T>(scale)); });
    zero(gradient, first);
    zero(gradient + last, columns - last);
  }
}

struct RowLoss {
  double loss = 0;
  bool is_correct = false;
};

// Overwrites the row.
template <class T>
RowLoss row_loss(T* x, std::size_t vocabulary, std::size_t target, const VocabularyLossTerms& terms,
                 bool wants_gradient) {
  const T largest = largest_of(x, vocabulary);
  const double logit = x[target];
  bool is_correct = x[target] == largest;
  for (std::size_t i = 0; is_correct && i < target; ++i) is_correct = x[i] < largest;
  const double mean = terms.label_smoothing > 0 ? static_cast<double>(sum_of(x, vocabulary)) /
                                                      static_cast<double>(vocabulary)
                                                : 0;
  const double sum = exponentials<T>(x, vocabulary, largest, 1);
  const double log_sum = static_cast<double>(largest) + std::log(sum);
  const double smoothing = terms.label_smoothing;
  const double loss =
      log_sum - (1 - smoothing) * logit - smoothing * mean + terms.z_loss * log_sum * log_sum;
  if (wants_gradient) {
    scale_and_add<T>(x, vocabulary, static_cast<T>((1 + 2 * terms.z_loss * log_sum) / sum),
                     static_cast<T>(-smoothing / static_cast<double>(vocabulary)));
    x[target] -= static_cast<T>(1 - smoothing);
  }
  return {loss, is_correct};
}

template <class T>
VocabularyLossSums loss_rows(T* x, std::size_t vocabulary, std::span<const std::int64_t> targets,
                             std::int64_t ignored, const VocabularyLossTerms& terms,
                             bool wants_gradient) {
  VocabularyLossSums sums;
  for (const std::int64_t target : targets) {
    if (target != ignored) {
      const RowLoss row =
          row_loss(x, vocabulary, static_cast<std::size_t>(target), terms, wants_gradient);
      sums.loss += row.loss;
      sums.counted += 1;
      if (row.is_correct) sums.correct += 1;
    } else if (wants_gradient) {
      zero(x, vocabulary);
    }
    x += vocabulary;
  }
  return sums;
}

#define TRIREME_INSTANCES(suffix, T)                                                            \
  void softmax_##suffix(T* x, std::size_t columns, const std::int32_t* begin,                   \
                        const std::int32_t* end, std::size_t rows, double scale) {              \
    softmax_rows(x, columns, begin, end, rows, scale);                                          \
  }                                                                                             \
  void softmax_backward_##suffix(T* gradient, const T* probabilities, std::size_t columns,      \
                                 const std::int32_t* begin, const std::int32_t* end,            \
                                 std::size_t rows, double scale) {                              \
    softmax_rows_backward(gradient, probabilities, columns, begin, end, rows, scale);           \
  }                                                                                             \
  VocabularyLossSums loss_##suffix(T* x, std::size_t vocabulary,                                \
                                   std::span<const std::int64_t> targets, std::int64_t ignored, \
                                   const VocabularyLossTerms& terms, bool wants_gradient) {     \
    return loss_rows(x, vocabulary, targets, ignored, terms, wants_gradient);                   \
  }

TRIREME_INSTANCES(f32, float)
TRIREME_INSTANCES(f64, double)
#undef TRIREME_INSTANCES

}  // namespace
}  // namespace trireme::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace trireme {
namespace {

HWY_EXPORT(softmax_f32);
HWY_EXPORT(softmax_f64);
HWY_EXPORT(softmax_backward_f32);
HWY_EXPORT(softmax_backward_f64);
HWY_EXPORT(loss_f32);
HWY_EXPORT(loss_f64);

[[noreturn]] void refuse(const char* function, DType dtype) {
  throw UsageError(fmt::format("{} needs f32 or f64, got {}", function, name_of(dtype)));
}

VocabularyLossSums loss_of(Buffer logits, std::span<const std::int64_t> targets,
                           std::int64_t ignored, const VocabularyLossTerms& terms,
                           bool wants_gradient) {
  if (targets.empty()) return {};
  const auto vocabulary = static_cast<std::size_t>(logits.count) / targets.size();
  for (const std::int64_t target : targets) {
    if (target == ignored || (target >= 0 && target < static_cast<std::int64_t>(vocabulary))) {
      continue;
    }
    throw UsageError(fmt::format("vocabulary_loss: a target must lie in [0, {}) or be {}, got {}",
                                 vocabulary, ignored, target));
  }
  switch (logits.dtype) {
    case DType::kF32:
      return HWY_DYNAMIC_DISPATCH(loss_f32)(logits.as<float>(), vocabulary, targets, ignored, terms,
                                            wants_gradient);
    case DType::kF64:
      return HWY_DYNAMIC_DISPATCH(loss_f64)(logits.as<double>(), vocabulary, targets, ignored,
                                            terms, wants_gradient);
    default:
      refuse("vocabulary_loss", logits.dtype);
  }
}

}  // namespace

void attention_softmax(Buffer scores, const AttentionRows& rows) {
  const auto columns = static_cast<std::size_t>(rows.columns);
  switch (scores.dtype) {
    case DType::kF32:
      return HWY_DYNAMIC_DISPATCH(softmax_f32)(scores.as<float>(), columns, rows.begin.data(),
                                               rows.end.data(), rows.begin.size(), rows.scale);
    case DType::kF64:
      return HWY_DYNAMIC_DISPATCH(softmax_f64)(scores.as<double>(), columns, rows.begin.data(),
                                               rows.end.data(), rows.begin.size(), rows.scale);
    default:
      refuse("attention_softmax", scores.dtype);
  }
}

void attention_softmax_backward(Buffer gradient, Buffer probabilities, const AttentionRows& rows) {
  const auto columns = static_cast<std::size_t>(rows.columns);
  switch (gradient.dtype) {
    case DType::kF32:
      return HWY_DYNAMIC_DISPATCH(softmax_backward_f32)(
          gradient.as<float>(), probabilities.as<float>(), columns, rows.begin.data(),
          rows.end.data(), rows.begin.size(), rows.scale);
    case DType::kF64:
      return HWY_DYNAMIC_DISPATCH(softmax_backward_f64)(
          gradient.as<double>(), probabilities.as<double>(), columns, rows.begin.data(),
          rows.end.data(), rows.begin.size(), rows.scale);
    default:
      refuse("attention_softmax_backward", gradient.dtype);
  }
}

VocabularyLossSums vocabulary_loss(Buffer logits, std::span<const std::int64_t> targets,
                                   std::int64_t ignored, const VocabularyLossTerms& terms) {
  return loss_of(logits, targets, ignored, terms, false);
}

VocabularyLossSums vocabulary_loss_and_gradient(Buffer logits,
                                                std::span<const std::int64_t> targets,
                                                std::int64_t ignored,
                                                const VocabularyLossTerms& terms) {
  return loss_of(logits, targets, ignored, terms, true);
}

}  // namespace trireme
#endif
