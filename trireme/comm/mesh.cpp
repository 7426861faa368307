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

// The axis without a size gets what the others leave.
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
    : axes_(fit(std::move(axes), world.size())), communicators_(axes_.size()) {
  int stride = 1;  // between neighbours along the axis
  for (std::size_t i = axes_.size(); i-- > 0;) {
    const int coordinate = world.rank() / stride % axes_[i].size;
    communicators_[i] = world.split(world.rank() - coordinate * stride, coordinate);
    stride *= axes_[i].size;
  }
}

Communicator& Mesh::along(std::string_view axis) const {
  for (std::size_t i = 0; i < axes_.size(); ++i) {
    if (axes_[i].name == axis) return *communicators_[i];
  }
  throw UsageError(fmt::format("mesh: no axis \"{}\"; there are {}", axis, text_of(axes_)));
}

}  // namespace trireme
