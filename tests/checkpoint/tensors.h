#pragma once

#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "trireme/checkpoint/checkpoint.h"

namespace trireme::test {

/// A tensor of numbers with memory of its own.
template <class T = float>
struct OwnedPiece {
  OwnedPiece(std::string name, std::vector<std::int64_t> full_shape, std::int64_t offset,
             std::int64_t count, T fill = T(-1))
      : values(static_cast<std::size_t>(count), fill),
        piece{std::move(name), std::move(full_shape), offset, buffer_of(std::span(values))} {}
  OwnedPiece(const OwnedPiece&) = delete;

  std::vector<T> values;
  Piece piece;
};

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
