#include "trireme/comm/mesh.h"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/base/error.h"

namespace trireme {

namespace {

std::string text_of(const std::vector<Axis>& axes) {
  std::string text;
  for (const Axis& axis : axes) {
    text += fmt::format("{}{} {}", text.empty() ? "" : " x ", axis.name, axis.size);
  }
  return text;
}

void check_names(const std::vector<Axis>& axes) {
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const bool repeated =
        std::any_of(axes.begin(), axes.begin() + static_cast<std::ptrdiff_t>(i),
                    [&](const Axis& other) { return other.name == axes[i].name; });
    if (axes[i].name.empty() || repeated) {
      throw UsageError(fmt::format("mesh: axes must have names, each its own, got \"{}\"{}",
                                   axes[i].name, repeated ? " twice" : ""));
    }
  }
}

// The axis without a size has the ranks that the other axes leave.
std::vector<Axis> fit(std::vector<Axis> axes, int ranks) {
  check_names(axes);
  std::int64_t known = 1;
  Axis* open = nullptr;
  for (Axis& axis : axes) {
    if (axis.size < 0 || (axis.size == 0 && open != nullptr)) {
      throw UsageError(fmt::format(
          "mesh: sizes must be positive, and one may be left open (0), got {}", text_of(axes)));
    }
    if (axis.size == 0) {
      open = &axis;
    } else {
      known *= axis.size;
    }
  }
  if (open != nullptr && ranks % known == 0) open->size = static_cast<int>(ranks / known);
  if (open != nullptr) known *= open->size;
  if (known != ranks) {
    throw UsageError(
        fmt::format("mesh: the sizes must multiply to the {} ranks of the world, got {}", ranks,
                    axes.empty() ? "no axis" : text_of(axes)));
  }
  return axes;
}

}  // namespace

Mesh::Mesh(Communicator& world, std::vector<Axis> axes)
    : world_(world), axes_(fit(std::move(axes), world.size())), communicators_(axes_.size()) {
  for (std::size_t i = axes_.size(); i-- > 0;) {
    const int stride = stride_of(i);
    const int coordinate = world.rank() / stride % axes_[i].size;
    communicators_[i] = world.split(world.rank() - coordinate * stride, coordinate);
  }
}

std::size_t Mesh::index_of(std::string_view axis) const {
  for (std::size_t i = 0; i < axes_.size(); ++i) {
    if (axes_[i].name == axis) return i;
  }
  throw UsageError(fmt::format("mesh: no axis \"{}\"; there are {}", axis, text_of(axes_)));
}

// The distance in ranks between neighbors along the axis.
int Mesh::stride_of(std::size_t axis) const {
  int stride = 1;
  for (std::size_t i = axes_.size() - 1; i > axis; --i) stride *= axes_[i].size;
  return stride;
}

Communicator& Mesh::along(std::string_view axis) const {
  return *communicators_[index_of(axis)];
}

Communicator& Mesh::along(std::span<const std::string_view> axes) {
  std::vector<bool> chosen(axes_.size());
  std::vector<std::size_t> indices;
  for (const std::string_view name : axes) {
    const std::size_t index = index_of(name);
    if (std::find(indices.begin(), indices.end(), index) != indices.end()) {
      throw UsageError(
          fmt::format("mesh: a product of axes has each axis once, got \"{}\" twice", name));
    }
    indices.push_back(index);
    chosen[index] = axes_[index].size > 1;
  }
  if (indices.empty()) {
    throw UsageError(
        fmt::format("mesh: a product of axes needs at least one of {}, got none", text_of(axes_)));
  }
  // Axes of one rank do not change the communicator.
  const auto wide = std::count(chosen.begin(), chosen.end(), true);
  if (wide == 0) return *communicators_[*std::min_element(indices.begin(), indices.end())];
  if (wide == 1) {
    return *communicators_[static_cast<std::size_t>(std::find(chosen.begin(), chosen.end(), true) -
                                                    chosen.begin())];
  }
  auto& product = products_[chosen];
  if (!product) {
    // The color is the rank whose coordinates along the chosen axes are 0.
    int color = world_.rank();
    for (std::size_t i = 0; i < axes_.size(); ++i) {
      if (chosen[i]) color -= communicators_[i]->rank() * stride_of(i);
    }
    product = world_.split(color, world_.rank());
  }
  return *product;
}

int Mesh::world_rank(std::string_view axis, int coordinate) const {
  const std::size_t index = index_of(axis);
  if (coordinate < 0 || coordinate >= axes_[index].size) {
    throw UsageError(fmt::format("mesh: a coordinate along {} must be in [0, {}), got {}", axis,
                                 axes_[index].size, coordinate));
  }
  return world_.rank() + (coordinate - communicators_[index]->rank()) * stride_of(index);
}

}  // namespace trireme
