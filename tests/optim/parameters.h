#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "trireme/base/random.h"
#include "trireme/optim/shard.h"

namespace trireme {

/// A few parameters with gradients of random numbers, and shards that cover them, cut in pieces of
/// `piece` elements (0: whole).
template <class T>
class Parameters {
 public:
  explicit Parameters(std::vector<std::int64_t> counts, std::int64_t piece = 0) {
    const CounterRandom random(11);
    std::uint64_t at = 0;
    for (const std::int64_t count : counts) {
      values_.emplace_back(count);
      gradients_.emplace_back(count);
      for (T& value : values_.back()) value = static_cast<T>(random.normal(at++));
    }
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const std::int64_t whole = counts[i];
      const std::int64_t size = piece == 0 ? whole : piece;
      for (std::int64_t first = 0; first < whole; first += size) {
        const Buffer all = buffer_of(std::span(values_[i]));
        shards_.push_back({fmt::format("p{}", i),
                           Region({whole}).slice({first, std::min(first + size, whole)}),
                           all.slice(first, std::min(size, whole - first)),
                           {gradients_[i].data() + first}});
      }
    }
  }

  /// The gradients of step `step`: small and large, and a few zeros.
  void draw_gradients(std::uint64_t step) {
    const CounterRandom random(5, step);
    std::uint64_t at = 0;
    for (auto& gradient : gradients_) {
      for (T& g : gradient) {
        g = at % 17 == 3 ? T(0) : static_cast<T>(random.normal(at) * (at % 5 == 0 ? 100 : 0.1));
        ++at;
      }
    }
  }

  /// Gives shard `i`, which must be whole, the shape of a matrix, say.
  void reshape(std::size_t i, TensorShape shape) { shards_[i].region = Region(std::move(shape)); }

  std::span<Shard> shards() { return shards_; }
  std::vector<std::vector<T>>& values() { return values_; }
  std::vector<std::vector<T>>& gradients() { return gradients_; }

 private:
  std::vector<std::vector<T>> values_;
  std::vector<std::vector<T>> gradients_;
  std::vector<Shard> shards_;
};

}  // namespace trireme
