#include "trireme/kernels/compress/random_k.h"

#include "trireme/base/partition.h"
#include "trireme/base/random.h"
#include "trireme/kernels/compress/wire.h"

namespace trireme::compress {

namespace {

// Calls visit(j, index) for the index drawn from part j, for all of them.
template <class Visit>
void for_each_drawn(std::int64_t count, std::int64_t k, std::uint64_t seed, Visit visit) {
  const CounterRandom random(seed);
  for (std::int64_t j = 0; j < k; j += 4) {
    const auto words = random.words(static_cast<std::uint64_t>(j / 4));
    for (std::int64_t word = 0; word < 4 && j + word < k; ++word) {
      const Range part = partition(count, k, j + word);
      // The product's upper half is uniform in [0, size), to within size / 2^32.
      const auto size = static_cast<std::uint64_t>(part.size());
      visit(j + word, part.begin + static_cast<std::int64_t>(words[word] * size >> 32));
    }
  }
}

}  // namespace

void RandomK::encode(const float* x, std::int64_t count, std::int64_t k, std::uint64_t seed,
                     std::byte* body) {
  store(body, seed);
  std::byte* const values = body + sizeof(seed);
  for_each_drawn(count, k, seed, [&](std::int64_t j, std::int64_t index) {
    store(values + j * sizeof(float), x[index]);
  });
}

void RandomK::add(const std::byte* body, std::int64_t count, std::int64_t k, float* sum,
                  float factor) {
  const auto seed = load<std::uint64_t>(body);
  const std::byte* const values = body + sizeof(seed);
  for_each_drawn(count, k, seed, [&](std::int64_t j, std::int64_t index) {
    sum[index] += load<float>(values + j * sizeof(float)) * factor;
  });
}

}  // namespace trireme::compress
