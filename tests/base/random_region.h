#pragma once

#include <rapidcheck.h>

#include <numeric>
#include <vector>

#include "trireme/base/region.h"

namespace trireme::test {

/// A region and its elements in the flattened tensor, found by looking at each element.
struct MarkedRegion {
  Region region;
  std::vector<std::int64_t> elements;
};

inline std::vector<Range> ranges_of(const std::vector<bool>& kept) {
  std::vector<Range> ranges;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    if (kept[i]) ranges.push_back({at, at + 1});
  }
  return ranges;
}

/// Returns the elements of a tensor all of whose indices are kept: `kept[dim][index]`.
inline std::vector<std::int64_t> marked_elements(const std::vector<std::vector<bool>>& kept) {
  std::int64_t all = 1;
  for (const auto& dim : kept) all *= std::ssize(dim);
  std::vector<std::int64_t> elements;
  for (std::int64_t element = 0; element < all; ++element) {
    bool is_kept = true;
    std::int64_t left = element;
    for (auto dim = kept.rbegin(); dim != kept.rend(); ++dim) {
      is_kept = is_kept && (*dim)[static_cast<std::size_t>(left % std::ssize(*dim))];
      left /= std::ssize(*dim);
    }
    if (is_kept) elements.push_back(element);
  }
  return elements;
}

inline TensorShape random_shape() {
  TensorShape shape(*rc::gen::inRange<std::size_t>(0, 5));
  for (auto& size : shape) size = *rc::gen::inRange<std::int64_t>(0, 6);
  return shape;
}

inline MarkedRegion random_region(const TensorShape& shape) {
  std::vector<std::vector<bool>> kept;
  std::vector<Cut> cuts;
  for (std::size_t dim = 0; dim < shape.size(); ++dim) {
    std::vector<bool> mask(static_cast<std::size_t>(shape[dim]), true);
    if (*rc::gen::arbitrary<bool>()) {
      for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = *rc::gen::arbitrary<bool>();
      cuts.push_back({.dim = static_cast<int>(dim), .kept = ranges_of(mask)});
    }
    kept.push_back(std::move(mask));
  }
  MarkedRegion marked{Region(shape, cuts), marked_elements(kept)};
  for (int slices = *rc::gen::inRange(0, 3); slices > 0; --slices) {
    const auto begin = *rc::gen::inRange<std::int64_t>(0, marked.region.count() + 1);
    const auto end = *rc::gen::inRange<std::int64_t>(begin, marked.region.count() + 1);
    marked.region = marked.region.slice({begin, end});
    marked.elements = {marked.elements.begin() + begin, marked.elements.begin() + end};
  }
  return marked;
}

}  // namespace trireme::test
