#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/comm/communicator.h"

namespace trireme {

/// A direction of a Mesh.
struct Axis {
  std::string name;  ///< "data", "tensor", "pipeline", ...
  int size = 0;      ///< ranks along it; 0, for one axis at most: what the others leave
};

/// The world cut into named axes, each with a communicator of the ranks that differ in nothing
/// else:
///
///     Mesh mesh(*world, {{"data"}, {"tensor", 2}});
///     mesh.along("tensor").all_reduce(partial).wait();
///     auto strategy = replicated(mesh.along("data"));
///
/// Rank r has the coordinates of r written in mixed radix: the last axis changes fastest. So the
/// ranks of the last axis are neighbours, of one host where that is as large; put there what talks
/// most. The threads rule of Communicator holds for each axis on its own.
class Mesh {
 public:
  /// Collective. Throws UsageError, on every rank, unless the sizes multiply to world.size() and
  /// names are different and not empty. The world must outlive the mesh only while this runs.
  Mesh(Communicator& world, std::vector<Axis> axes);

  const std::vector<Axis>& axes() const { return axes_; }

  /// The ranks that differ from this one along `axis` only, in the order of their coordinates.
  /// Throws UsageError for a name that is not an axis.
  Communicator& along(std::string_view axis) const;

  /// This rank's place along `axis`: along(axis).rank().
  int coordinate(std::string_view axis) const { return along(axis).rank(); }

 private:
  std::vector<Axis> axes_;
  std::vector<std::unique_ptr<Communicator>> communicators_;
};

}  // namespace trireme
