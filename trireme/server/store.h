#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trireme/base/zeroed_memory.h"
#include "trireme/formats/safetensors.h"
#include "trireme/kernels/reduction_tree.h"
#include "trireme/optim/optimizer.h"
#include "trireme/server/message.h"
#include "trireme/server/model_schema.h"
#include "trireme/server/rows.h"

namespace trireme::server {

/// The part of a model that one of `shards` servers holds: ranges of the dense tables, rows of the
/// sparse tables, and the state of their optimizers. Every part of a message must have passed its
/// check here before it is used. One thread.
class Store {
 public:
  /// Throws UsageError if `schema` is invalid.
  Store(const ModelSchema& schema, int shard, int shards);

  const ModelSchema& schema() const { return schema_; }
  int shard() const { return shard_; }
  int shards() const { return shards_; }

  /// Throws UsageError, naming the table and the difference, unless the gradients of the push fit;
  /// a dense one must have `rows` partial sums.
  void check_gradients(const Message& push, std::int64_t rows) const;
  /// Throws UsageError, naming table, element and value, if a part that carries values or gradients
  /// (decoded, and accepted by the checks here) holds a NaN or an infinity.
  void check_finite(const Part& part) const;
  /// The same as check_gradients() for a part that reads, and for a part that carries values.
  void check_read(const Part& part) const;
  void check_write(const Part& part) const;

  /// Decodes an encoded gradient. Throws DataError if its payload is invalid.
  std::unique_ptr<std::byte[]> decoded(const Part& part) const;
  std::size_t decoded_bytes(const Part& part) const;
  /// Bytes of a gradient that check_gradients() has accepted, once it is decoded.
  std::size_t gradient_bytes(const Part& part) const {
    return part.kind == PartKind::kEncodedGradient ? decoded_bytes(part) : part.payload.size();
  }

  /// Prepares one update: by the sum of `pushes`, one for each rank of `tree` in order, divided by
  /// their divisor (0: tree->virtual_workers()); or, with one push and no tree, by its gradient.
  /// The learning rate, scale and divisor are those of the first push. The pushes and the tree must
  /// outlive update(). Throws std::bad_alloc, and no value has changed.
  void prepare(std::span<const Message* const> pushes, const ReductionTree* tree);
  /// Makes the prepared update.
  void update();

  /// The bytes of the values that `part` reads.
  std::size_t bytes_of(const Part& part) const;
  void read(const Part& part, std::span<std::byte> out) const;
  /// Creates the rows that write() needs. Throws std::bad_alloc, and no value has changed.
  void reserve(const Part& part);
  void write(const Part& part);

  /// True once the values of all dense tables have been written.
  bool is_complete() const;

  /// Memory that a Store needs for `schema` before there are rows: the dense tables, their state,
  /// and what each table takes by itself. The largest number if it is more than that.
  static std::size_t initial_bytes(const ModelSchema& schema, int shard, int shards);

  /// Memory of all tables once the rows that `messages` update or write have been created.
  std::size_t bytes_with(std::span<const Message* const> messages) const;

  /// Writes `file` completely or not at all (docs/format/parameter-server.md). Throws DataError.
  void save(const std::string& file, std::int64_t version) const;
  /// Reads this server's part from a file of a checkpoint that any number of servers has written.
  /// Returns the version. Throws DataError if the file is damaged or holds another model.
  std::int64_t restore(const std::string& file);
  /// The schema of the model in such a file. Throws DataError.
  static ModelSchema schema_in(const SafetensorsFile& file, const std::string& path);

 private:
  struct Dense {
    Range range;
    std::size_t shard = 0;  // in ranges_, unless the range is empty
    bool is_written = false;
    std::int64_t restored = 0;   // elements
    std::vector<Buffer> arrays;  // values, then state
    Buffer steps;                // one element
  };

  bool is_sparse(const Part& part) const { return part.table >= schema_.dense.size(); }
  const Dense& dense_of(const Part& part) const { return dense_[part.table]; }
  Rows& rows_of(const Part& part) const { return *sparse_[part.table - schema_.dense.size()]; }
  const std::string& table_of(const Part& part) const;
  int arrays_of(const Part& part) const;

  void check_table(const Part& part, bool sparse) const;
  void check_array(const Part& part) const;
  void check_range(const Part& part) const;
  void check_keys(const Part& part) const;
  void check_payload(const Part& part, std::size_t bytes) const;
  void check_row_gradients(const Part& part) const;
  void check_dense_gradient(const Part& part, std::int64_t rows) const;

  void restore_dense(const SafetensorsFile& file, std::size_t table);
  void restore_rows(const SafetensorsFile& file, std::size_t table);
  void prepare_dense(std::span<const Message* const> pushes, const ReductionTree* tree,
                     double divisor);
  void prepare_rows(std::span<const Message* const> pushes);

  ModelSchema schema_;
  int shard_;
  int shards_;
  std::vector<ZeroedMemory> values_;
  std::vector<Shard> ranges_;  // of the dense tables, for the optimizer
  std::unique_ptr<Optimizer> optimizer_;
  std::vector<Dense> dense_;
  std::vector<std::unique_ptr<Rows>> sparse_;
  RowUpdate row_update_;  // of the prepared update
};

}  // namespace trireme::server
