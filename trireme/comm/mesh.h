#pragma once

#include <initializer_list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/comm/communicator.h"

namespace trireme {

/// A direction of a Mesh.
struct Axis {
  std::string name;  ///< "data", "tensor", "pipeline", ...
  int size = 0;  ///< ranks along it; one axis may have 0 and gets all ranks that the others leave
};

/// The world as a grid with named axes. Each axis has a communicator of the ranks that differ only
/// in their coordinate along it:
///
///     Mesh mesh(*world, {{"pipeline", 2}, {"data"}, {"context", 2}, {"tensor", 2}});
///     mesh.along("tensor").all_reduce(partial).wait();
///     auto strategy = replicated(mesh.along({"data", "context"}));
///
/// A second view of the same ranks is a mesh over a product of axes, here one that places experts:
///
///     Mesh experts(mesh.along({"data", "context", "tensor"}), {{"expert_data"}, {"expert", 4}});
///
/// Rank r has the coordinates of r written in mixed radix: the last axis changes fastest. So the
/// ranks of the last axis are neighbors, on one host if that has as many ranks; give the last place
/// to the axis that communicates most. The thread rule of Communicator holds for each axis and
/// product on its own.
class Mesh {
 public:
  /// Collective. Throws UsageError, on every rank, unless the sizes multiply to world.size() and
  /// the names are different and not empty. The world must outlive the mesh.
  Mesh(Communicator& world, std::vector<Axis> axes);

  const std::vector<Axis>& axes() const { return axes_; }

  /// The ranks that differ from this one along `axis` only, in the order of their coordinates.
  /// Throws UsageError for a name that is not an axis.
  Communicator& along(std::string_view axis) const;

  /// The ranks that differ from this one along these axes only, in the order of their coordinates
  /// in the mesh, whatever the order of the names. The first call for a product of axes is
  /// collective over the world: every rank must make it. Throws UsageError for names that are not
  /// axes, that are repeated, and for no name at all.
  Communicator& along(std::span<const std::string_view> axes);
  Communicator& along(std::initializer_list<std::string_view> axes) {
    return along(std::span(axes.begin(), axes.size()));
  }

  /// This rank's place along `axis`: along(axis).rank().
  int coordinate(std::string_view axis) const { return along(axis).rank(); }

  /// The rank in the world of the rank whose coordinates are those of this one but for `axis`.
  /// Throws UsageError unless 0 <= coordinate < the size of the axis.
  int world_rank(std::string_view axis, int coordinate) const;

 private:
  std::size_t index_of(std::string_view axis) const;
  int stride_of(std::size_t axis) const;

  Communicator& world_;
  std::vector<Axis> axes_;
  std::vector<std::unique_ptr<Communicator>> communicators_;
  // By the axes that are in the product and have more than one rank.
  std::map<std::vector<bool>, std::unique_ptr<Communicator>> products_;
};

}  // namespace trireme
