#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/base/partition.h"
#include "trireme/base/region.h"
#include "trireme/optim/make_optimizer.h"

namespace trireme::server {

/// A flattened tensor, cut into ranges over the servers.
struct DenseTable {
  std::string name;
  std::int64_t count = 0;     ///< elements of the whole tensor
  DType dtype = DType::kF32;  ///< or f64
  TensorShape shape = {};     ///< only for optimizers of whole parameters, which need it
};

/// The initial values of a row: a function of (seed, key) alone, so that a row takes no memory
/// before its first update.
struct RowInit {
  enum class Kind : std::uint8_t { kZeros, kUniform, kNormal };
  Kind kind = Kind::kZeros;
  double scale = 0;  ///< uniform in [-scale, scale), or the standard deviation
  std::uint64_t seed = 0;
};

/// Rows of `width` f32 values with 64-bit keys, created by their first update. shard_of() says
/// which server holds a row.
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
    /// The gradients of a step are summed over all workers in the order of ReductionTree and
    /// applied
    /// once: the same bits as an all-reduce. A read at clock c sees c updates.
    kSynchronous,
    /// Stale synchronous parallel (Ho et al. 2013): a push is applied when it arrives; a read at
    /// clock
    /// c waits until every worker's clock is at least c - staleness.
    kBounded,
    /// A push is applied when it arrives, and no worker waits (Dean et al. 2012).
    kAsynchronous,
  };
  Mode mode = Mode::kAsynchronous;
  int workers = 1;
  int staleness = 0;       ///< of kBounded, steps
  int backup_workers = 0;  ///< of kSynchronous: a step does not wait for so many slowest workers
                           ///< (Chen et al. 2016); their late pushes are dropped
  /// kSynchronous: the number of virtual workers of each worker; empty: one each. A worker pushes
  /// one row for each of its nodes of the ReductionTree.
  std::vector<int> virtual_workers = {};
};

/// What the servers must know of a model; all workers have the same.
struct ModelSchema {
  std::vector<DenseTable> dense;
  std::vector<SparseTable> sparse;
  OptimizerOptions optimizer;  ///< of the dense tables; each push has the learning rate
  /// Of the dense tables, by name: groups_by_name(). `optimizer.groups` must be empty, here and in
  /// sparse tables.
  std::vector<ParameterGroup> groups = {};
  double clip_value = 0;  ///< gradients are clipped to [-clip_value, clip_value]; 0: no clipping
  Consistency consistency;
};

/// Throws UsageError if the schema is invalid: duplicate names, negative counts, types other than
/// f32 and f64, staleness or workers out of range.
void check(const ModelSchema& schema);

std::string to_json(const ModelSchema& schema);

/// Reads what to_json() has written. Throws DataError unless `json` is a schema that passes
/// check().
ModelSchema parse_schema(std::string_view json);

/// The difference between two schemas, "fc1.weight has elements: 100 here and 90 on the servers";
/// empty if there is none.
std::string difference(const ModelSchema& mine, const ModelSchema& theirs);

/// The range of dense table number `table` that server `shard` of `shards` holds. Ranges begin at
/// multiples of 16; small tables are spread over the servers. If the optimizer updates whole
/// parameters only, one server has all of a table, and table after table is with the next server.
Range range_of(const ModelSchema& schema, std::size_t table, int shard, int shards);
/// The same of a table of `count` elements, if it may be cut.
Range range_of(std::int64_t count, std::size_t table, int shard, int shards);

/// The server, of `shards`, that holds the row of a key.
int shard_of(std::uint64_t key, int shards);

}  // namespace trireme::server
