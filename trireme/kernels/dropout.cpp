#include "trireme/kernels/dropout.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>

#include "trireme/base/error.h"
#include "trireme/kernels/random_words.h"

namespace trireme {

namespace {

template <class T>
void drop_of(T* x, std::uint64_t count, const Dropout& dropout, std::uint64_t first) {
  const CounterRandom random(dropout.seed, dropout.stream);
  const auto threshold = static_cast<std::uint64_t>(std::llround(std::ldexp(dropout.fraction, 32)));
  const T scale = static_cast<T>(1 / (1 - dropout.fraction));
  for_each_word(random, first, count, [&](std::uint64_t i, std::uint32_t word) {
    x[i] = word < threshold ? T{0} : x[i] * scale;
  });
}

}  // namespace

void drop(Buffer x, const Dropout& dropout, std::uint64_t first) {
  if (dropout.fraction == 0) return;
  const auto count = static_cast<std::uint64_t>(x.count);
  switch (x.dtype) {
    case DType::kF32:
      return drop_of(x.as<float>(), count, dropout, first);
    case DType::kF64:
      return drop_of(x.as<double>(), count, dropout, first);
    default:
      throw UsageError(fmt::format("dropout needs f32 or f64, got {}", name_of(x.dtype)));
  }
}

}  // namespace trireme
