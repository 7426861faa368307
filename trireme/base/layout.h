#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trireme/base/region.h"

namespace trireme {

/// The place of a rank along one axis of a mesh.
struct Coordinate {
  std::string axis;  ///< "data", "tensor", ...
  int index = 0;
  int size = 1;
};

/// Along every axis of a mesh, from the outermost to the innermost.
using Coordinates = std::vector<Coordinate>;

/// A dimension that is cut along an axis. Each of its `parts` is cut by itself into `shards` whose
/// sizes differ by at most one; a rank holds an equal number of consecutive shards of each part.
struct AxisCut {
  int dim = 0;
  std::string axis;
  /// A multiple of the axis's size; 0: the size. A fixed number keeps bits equal for all sizes.
  int shards = 0;
  /// Sizes of the parts of a fused weight, such as q|k|v or gate|up; empty: one part.
  std::vector<std::int64_t> parts = {};
};

/// The one coordinate of an axis at which a parameter exists: its pipeline stage.
struct PipelineStage {
  std::string axis;
  int index = 0;
};

/// Where a parameter lies on a mesh, and what its gradient is there. What regions, reductions,
/// norms, checkpoints and weight decay need is derived from it. Axes that a layout does not name
/// hold copies.
struct Layout {
  TensorShape full_shape;
  std::vector<AxisCut> cuts = {};
  /// What is left of the cuts is sliced along the product of these axes, at blocks of
  /// kBlockElements: ZeRO.
  std::vector<std::string> sliced = {};
  /// Along these axes, each rank has computed a part of the gradient: the gradient is their sum.
  std::vector<std::string> partial = {};
  std::optional<PipelineStage> stage = std::nullopt;
  /// The parameter that this one is the same as, such as the embedding of a tied output layer.
  std::string tied = {};
};

/// Throws UsageError if a layout does not fit a mesh: an axis that the mesh lacks, that is cut,
/// sliced or the stage's twice, or that is both cut and partial; shards that the axis's size does
/// not divide; parts that do not add up to their dimension.
void require_valid(const Layout& layout, const Coordinates& coordinates);

// These require a valid layout.

/// Returns true if the rank holds any of the parameter.
bool exists_here(const Layout& layout, const Coordinates& coordinates);
/// Returns what the rank holds of the parameter; an empty slice if it does not exist there.
Region region_of(const Layout& layout, const Coordinates& coordinates);
/// Returns true if this rank's region counts in norms and is written to checkpoints. Over all
/// coordinates, the regions that count cover the parameter exactly once; a parameter that is tied
/// to another one never counts.
bool counts_here(const Layout& layout, const Coordinates& coordinates);
/// Returns the axes, of more than one rank, along which gradients must be summed, outermost first.
std::vector<std::string> reduction_axes(const Layout& layout, const Coordinates& coordinates);

/// What weight decay looks at. Biases and the parameters of norms have one dimension.
enum class ParameterKind { kMatrix, kVector };
ParameterKind kind_of(std::span<const std::int64_t> full_shape);

}  // namespace trireme
