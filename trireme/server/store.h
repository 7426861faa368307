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
#include "trireme/server/declaration.h"
#include "trireme/server/message.h"
#include "trireme/server/rows.h"

namespace trireme::server {

/// The part of a model that one of `shards` servers holds: ranges of the dense tables, rows of the
/// sparse ones, and their optimizers' state. Parts of messages are checked here against what there
/// is: whoever has them carried out has had them checked. One thread.
class Store {
 public:
  /// Throws UsageError for an impossible declaration.
  Store(const Declaration& declaration, int shard, int shards);

  const Declaration& declaration() const { return declaration_; }
  int shard() const { return shard_; }
  int shards() const { return shards_; }

  /// Throws UsageError naming the table and what differs unless each gradient of the push fits, a
  /// dense one being `rows` rows.
  void check_gradients(const Message& push, std::int64_t rows) const;
  /// An encoded gradient of a table as it would have come without a codec. Throws DataError if the
  /// payload is none. For parts of a push that has been checked.
  std::unique_ptr<std::byte[]> decoded(const Part& part) const;
  std::size_t decoded_bytes(const Part& part) const;

  /// The same of parts that ask for values, and of those that bring them.
  void check_wanted(const Part& part) const;
  void check_values(const Part& part) const;

  /// Gets ready for one update by the mean of `pushes` over the leaves of `tree`, whose ranks they
  /// are, in order; or, with one push and no tree, by its gradient. Rate and scale are the first
  /// one's. All of them must outlive it. Throws std::bad_alloc, and no value has changed.
  void prepare(std::span<const Message* const> pushes, const ReductionTree* tree);
  /// Makes the update that has been prepared.
  void update();

  /// What an answer to `part` takes.
  std::size_t bytes_of(const Part& part) const;
  void read(const Part& part, std::span<std::byte> out) const;
  /// For values that a part is going to bring. Throws std::bad_alloc, and no value has changed.
  void make_room(const Part& part);
  void write(const Part& part);

  /// True once every element of every dense table's range has been written.
  bool is_complete() const;

  /// Memory that a Store of these takes for its dense tables and their state.
  static std::size_t dense_bytes(const Declaration& declaration, int shard, int shards);

  /// Memory of the sparse tables.
  std::size_t row_bytes() const;

  /// The gradient parts of a message come first.
  static bool is_gradient(const Part& part) {
    return part.form == Form::kGradient || part.form == Form::kEncoded ||
           part.form == Form::kRowGradients;
  }

  /// Writes `file` as a whole or not at all (docs/format/parameter-server.md). Throws DataError.
  void save(const std::string& file, std::int64_t version) const;
  /// Takes what this server holds now out of a file that any number of servers has written. Returns
  /// the version. Throws DataError if it is damaged or another model's.
  std::int64_t restore(const std::string& file);
  /// What model such a file holds. Throws DataError.
  static Declaration declaration_in(const SafetensorsFile& file, const std::string& path);

 private:
  struct Dense {
    Range range;
    std::size_t place = 0;  // in ranges_, unless the range is empty
    bool is_written = false;
    std::int64_t restored = 0;  // elements
    std::vector<Buffer> slots;  // values, then state
    Buffer steps;               // one
  };

  bool is_sparse(const Part& part) const { return part.table >= declaration_.dense.size(); }
  const Dense& dense_of(const Part& part) const { return dense_[part.table]; }
  Rows& rows_of(const Part& part) const { return *sparse_[part.table - declaration_.dense.size()]; }
  const std::string& table_of(const Part& part) const;
  void check_table(const Part& part, bool sparse) const;
  void check_range(const Part& part) const;
  void check_keys(const Part& part) const;
  void check_payload(const Part& part, std::size_t bytes) const;
  int slots_of(const Part& part) const;
  void restore_dense(const SafetensorsFile& file, std::size_t table);
  void restore_rows(const SafetensorsFile& file, std::size_t table);
  void prepare_dense(std::span<const Message* const> pushes, const ReductionTree* tree);
  void prepare_rows(std::span<const Message* const> pushes);

  Declaration declaration_;
  int shard_;
  int shards_;
  std::vector<ZeroedMemory> values_;
  std::vector<Shard> ranges_;  // the optimizer's
  std::unique_ptr<Optimizer> optimizer_;
  std::vector<Dense> dense_;
  std::vector<std::unique_ptr<Rows>> sparse_;
  RowUpdate row_update_;  // prepared
};

}  // namespace trireme::server
