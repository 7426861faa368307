#include "trireme/base/layout.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "trireme/base/error.h"

namespace trireme {

namespace {

[[noreturn]] void refuse(const std::string& reason) {
  throw UsageError("layout: " + reason);
}

const Coordinate* find(const Coordinates& coordinates, const std::string& axis) {
  const auto found = std::ranges::find(coordinates, axis, &Coordinate::axis);
  return found == coordinates.end() ? nullptr : &*found;
}

const Coordinate& along(const std::string& axis, const Coordinates& coordinates) {
  if (const Coordinate* found = find(coordinates, axis)) return *found;
  std::vector<std::string> axes;
  for (const Coordinate& coordinate : coordinates) axes.push_back(coordinate.axis);
  refuse(fmt::format("\"{}\" must be an axis of the mesh, which has [{}]", axis,
                     fmt::join(axes, ", ")));
}

int shards_of(const AxisCut& cut, const Coordinate& place) {
  return cut.shards == 0 ? place.size : cut.shards;
}

std::vector<std::int64_t> parts_of(const AxisCut& cut, const TensorShape& shape) {
  return cut.parts.empty() ? TensorShape{shape[static_cast<std::size_t>(cut.dim)]} : cut.parts;
}

void require_valid(const AxisCut& cut, const TensorShape& shape, const Coordinates& coordinates) {
  if (cut.dim < 0 || cut.dim >= std::ssize(shape)) {
    refuse(fmt::format("a cut's dimension must be one of the {} of [{}], got {}", shape.size(),
                       fmt::join(shape, ", "), cut.dim));
  }
  const Coordinate& place = along(cut.axis, coordinates);
  const int shards = shards_of(cut, place);
  if (shards < 1 || shards % place.size != 0) {
    refuse(fmt::format("the {} shards of dimension {} must be a multiple of the {} ranks of \"{}\"",
                       shards, cut.dim, place.size, cut.axis));
  }
  const std::vector<std::int64_t> parts = parts_of(cut, shape);
  const std::int64_t size = shape[static_cast<std::size_t>(cut.dim)];
  if (std::ranges::any_of(parts, [](std::int64_t part) { return part < 0; }) ||
      std::accumulate(parts.begin(), parts.end(), std::int64_t{0}) != size) {
    refuse(fmt::format("the parts [{}] of dimension {} must add up to its size {}",
                       fmt::join(parts, ", "), cut.dim, size));
  }
}

Cut cut_of(const AxisCut& cut, const TensorShape& shape, const Coordinates& coordinates) {
  const Coordinate& place = along(cut.axis, coordinates);
  const int shards = shards_of(cut, place);
  const int own = shards / place.size;
  Cut kept{.dim = cut.dim, .kept = {}};
  std::int64_t begin = 0;
  for (const std::int64_t part : parts_of(cut, shape)) {
    const Range first = partition(part, shards, place.index * own);
    const Range last = partition(part, shards, (place.index + 1) * own - 1);
    kept.kept.push_back({begin + first.begin, begin + last.end});
    begin += part;
  }
  return kept;
}

// The place along the product of some axes, in the order of the mesh.
Coordinate along_all(const std::vector<std::string>& axes, const Coordinates& coordinates) {
  Coordinate product;
  for (const Coordinate& coordinate : coordinates) {
    if (std::ranges::find(axes, coordinate.axis) == axes.end()) continue;
    product.index = product.index * coordinate.size + coordinate.index;
    product.size *= coordinate.size;
  }
  return product;
}

// The axes whose ranks hold different parts of the parameter.
std::vector<std::string> dividing_axes(const Layout& layout) {
  std::vector<std::string> axes = layout.sliced;
  for (const AxisCut& cut : layout.cuts) axes.push_back(cut.axis);
  if (layout.stage) axes.push_back(layout.stage->axis);
  return axes;
}

}  // namespace

void require_valid(const Layout& layout, const Coordinates& coordinates) {
  elements_of(layout.full_shape);
  for (const AxisCut& cut : layout.cuts) require_valid(cut, layout.full_shape, coordinates);
  if (layout.stage) {
    const Coordinate& place = along(layout.stage->axis, coordinates);
    if (layout.stage->index < 0 || layout.stage->index >= place.size) {
      refuse(fmt::format("stage {} must be one of the {} of \"{}\"", layout.stage->index,
                         place.size, place.axis));
    }
  }
  std::set<std::string> dividing;
  for (const std::string& axis : dividing_axes(layout)) {
    along(axis, coordinates);
    if (!dividing.insert(axis).second) refuse(fmt::format("\"{}\" divides it twice", axis));
  }
  std::set<int> dims;
  for (const AxisCut& cut : layout.cuts) {
    if (!dims.insert(cut.dim).second) refuse(fmt::format("dimension {} is cut twice", cut.dim));
  }
  for (const std::string& axis : layout.partial) {
    along(axis, coordinates);
    const bool is_cut = std::ranges::find(layout.cuts, axis, &AxisCut::axis) != layout.cuts.end();
    if (is_cut || (layout.stage && layout.stage->axis == axis)) {
      refuse(fmt::format("a gradient cannot be partial along \"{}\", which divides the parameter",
                         axis));
    }
  }
}

bool exists_here(const Layout& layout, const Coordinates& coordinates) {
  return !layout.stage || along(layout.stage->axis, coordinates).index == layout.stage->index;
}

Region region_of(const Layout& layout, const Coordinates& coordinates) {
  if (!exists_here(layout, coordinates)) return Region(layout.full_shape).slice({0, 0});
  std::vector<Cut> cuts;
  for (const AxisCut& cut : layout.cuts) {
    cuts.push_back(cut_of(cut, layout.full_shape, coordinates));
  }
  const Region region(layout.full_shape, std::move(cuts));
  if (layout.sliced.empty()) return region;
  const Coordinate slice = along_all(layout.sliced, coordinates);
  return region.block_slice(slice.size, slice.index);
}

bool counts_here(const Layout& layout, const Coordinates& coordinates) {
  if (!layout.tied.empty() || !exists_here(layout, coordinates)) return false;
  const std::vector<std::string> dividing = dividing_axes(layout);
  return std::ranges::all_of(coordinates, [&](const Coordinate& coordinate) {
    return coordinate.index == 0 || std::ranges::find(dividing, coordinate.axis) != dividing.end();
  });
}

std::vector<std::string> reduction_axes(const Layout& layout, const Coordinates& coordinates) {
  std::vector<std::string> axes;
  for (const Coordinate& coordinate : coordinates) {
    const bool is_partial =
        std::ranges::find(layout.partial, coordinate.axis) != layout.partial.end();
    if (is_partial && coordinate.size > 1) axes.push_back(coordinate.axis);
  }
  return axes;
}

ParameterKind kind_of(std::span<const std::int64_t> full_shape) {
  return full_shape.size() >= 2 ? ParameterKind::kMatrix : ParameterKind::kVector;
}

}  // namespace trireme
