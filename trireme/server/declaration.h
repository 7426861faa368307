#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/base/partition.h"
#include "trireme/optim/make_optimizer.h"

namespace trireme::server {

/// A tensor, flattened, that is cut into ranges over the servers.
struct DenseTable {
  std::string name;
  std::int64_t count = 0;     ///< elements of the whole tensor
  DType dtype = DType::kF32;  ///< or f64
};

/// What the values of a row are until its first update: a function of (seed, key) alone, so that a
/// row that nobody has updated takes no memory.
struct RowInit {
  enum class Kind : std::uint8_t { kZeros, kUniform, kNormal };
  Kind kind = Kind::kZeros;
  double scale = 0;  ///< uniform in [-scale, scale), or the standard deviation
  std::uint64_t seed = 0;
};

/// Rows of `width` f32 values by 64-bit key, made at their first update. Of p servers the one that
/// hash(key) names holds a row.
struct SparseTable {
  std::string name;
  std::int64_t width = 1;
  RowInit init;
  OptimizerOptions optimizer;
};

/// How far workers may be apart. A worker's clock is the number of steps whose gradients it has
/// pushed.
struct Consistency {
  enum class Mode : std::uint8_t {
    /// A step's gradients are summed over all workers in the order of ReductionTree and applied
    /// once: the same bits as an all-reduce. A read at clock c sees c updates.
    kSynchronous,
    /// Stale synchronous parallel (Ho et al. 2013): a push is applied when it comes; a read at
    /// clock c waits until every worker's clock is at least c - staleness.
    kBounded,
    /// A push is applied when it comes and nobody waits (Dean et al. 2012).
    kAsynchronous,
  };
  Mode mode = Mode::kAsynchronous;
  int workers = 1;
  int staleness = 0;       ///< of kBounded, steps
  int backup_workers = 0;  ///< of kSynchronous: the slowest so many are not waited for (Chen et
                           ///< al. 2016); what they push for a step that is over is dropped
  /// Of each worker: leaves of the tree of kSynchronous; empty: one each. What a worker pushes is
  /// one row for each of its nodes.
  std::vector<int> virtual_workers = {};
};

/// All that servers have to know of a model; every worker declares the same.
struct Declaration {
  std::vector<DenseTable> dense;
  std::vector<SparseTable> sparse;
  OptimizerOptions optimizer;  ///< of the dense tables; the learning rate comes with each push
  /// Of the dense tables, by name: groups_by_name(). `optimizer.groups` must be empty, there and in
  /// sparse tables.
  std::vector<ParameterGroup> groups = {};
  double clip_value = 0;  ///< gradients are cut to [-clip_value, clip_value]; 0: they are not
  Consistency consistency;
};

/// Throws UsageError for what no server could hold: names that come twice, counts below 0, types
/// other than f32 and f64, staleness or workers out of range.
void check(const Declaration& declaration);

std::string to_json(const Declaration& declaration);

/// Throws DataError unless `json` is what to_json() writes of a declaration that passes check().
Declaration parse_declaration(std::string_view json);

/// What makes `theirs` another model than `mine`, "fc1.weight has 100 elements here and 90 on the
/// servers"; empty if nothing does.
std::string difference(const Declaration& mine, const Declaration& theirs);

/// The elements of dense table number `table`, of `count`, that server `shard` of `shards` holds:
/// cuts on multiples of 16, small tables spread over the servers.
Range range_of(std::int64_t count, std::size_t table, int shard, int shards);

/// The server, of `shards`, that holds the row of a key.
int shard_of(std::uint64_t key, int shards);

}  // namespace trireme::server
