#pragma once

#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "trireme/base/runs.h"
#include "trireme/checkpoint/checkpoint.h"

namespace trireme::test {

/// A region of a tensor, with memory of its own.
template <class T = float>
struct OwnedTensor {
  OwnedTensor(std::string name, const Region& region, T fill = T(-1))
      : values(static_cast<std::size_t>(region.count()), fill),
        tensor{.name = std::move(name), .region = region, .values = buffer_of(std::span(values))} {}
  /// Elements [offset, offset + count) of the flattened tensor.
  OwnedTensor(std::string name, std::vector<std::int64_t> full_shape, std::int64_t offset,
              std::int64_t count, T fill = T(-1))
      : OwnedTensor(std::move(name), Region(std::move(full_shape)).slice({offset, offset + count}),
                    fill) {}
  OwnedTensor(const OwnedTensor&) = delete;

  std::int64_t offset() const { return tensor.region.range().begin; }

  std::vector<T> values;
  StateTensor tensor;
};

/// Sets each value to f(its place in the flattened whole tensor).
template <class T, class F>
void fill_by_place(OwnedTensor<T>& owned, const F& f) {
  for (const Run& run : runs_of(owned.tensor.region)) {
    for (std::int64_t i = 0; i < run.count; ++i) {
      owned.values[static_cast<std::size_t>(run.local + i)] = static_cast<T>(f(run.full + i));
    }
  }
}

/// first, first + 1, ...
template <class T>
void count_from(std::vector<T>& values, T first) {
  std::iota(values.begin(), values.end(), first);
}

template <class T>
std::vector<T> counted(std::size_t count, T first) {
  std::vector<T> values(count);
  count_from(values, first);
  return values;
}

}  // namespace trireme::test
