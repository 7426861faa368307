#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/kernels/compress.h"
#include "trireme/server/message.h"
#include "trireme/server/model_schema.h"

namespace trireme::server {

/// A dense gradient, or the gradients of some rows of a sparse table.
struct Gradient {
  std::string_view table;
  /// Dense: [rows, count of the table]; one row, except in synchronous training over virtual
  /// workers, where a worker pushes its partial sums (ReductionTree::nodes_of()). Sparse: [keys,
  /// width], f32.
  Buffer values;
  std::span<const std::uint64_t> keys;
  /// The gradient is zero because no sample reached the parameter. If every worker's is empty, the
  /// parameter is not updated.
  bool empty = false;
  /// Dense, one row: compresses the gradient on the way to each server, one compressor for the
  /// range (range_of()) of each; none: the gradient is not compressed.
  std::span<Compressor> compressors;
};

/// Values of a table in the memory of a worker, which a call reads into or stores: those of a whole
/// dense table, or of the rows of `keys`.
struct TableValues {
  std::string_view table;
  Buffer values;  ///< [count], or [keys, width]
  std::span<const std::uint64_t> keys;
  std::uint8_t array = 0;  ///< 0: the parameters; i: array i - 1 of the optimizer's state
};

/// One request to all servers of a model: a message for each, with the parts of the tables that the
/// server holds and the memory that they need. Throws UsageError, naming `call`, if a table or a
/// shape is not that of the schema.
class ShardedRequest {
 public:
  /// `schema` outlives the request.
  ShardedRequest(const char* call, MessageType type, const ModelSchema& schema, int shards);

  const char* call() const { return call_; }
  MessageType type() const { return messages_.front().type; }
  int shards() const { return static_cast<int>(messages_.size()); }
  std::span<Message> messages() { return messages_; }
  Message& message(int shard) { return messages_[static_cast<std::size_t>(shard)]; }

  /// The number of a table.
  std::uint32_t table_of(std::string_view name) const;

  /// Where the values go that a server's reply carries: one span for each part that reads.
  std::span<const std::span<std::byte>> outputs(int shard) const {
    return outputs_[static_cast<std::size_t>(shard)];
  }

  /// The gradient must stay where it is until the reply has come. `step` seeds what a compressor
  /// draws.
  void add_gradient(const Gradient& gradient, std::int64_t step);
  /// Reads `values`.
  void add_read(const TableValues& values);
  /// Carries `values`.
  void add_write(const TableValues& values);

  /// Adds a part that reads `bytes` into memory of this request, and returns that memory.
  std::span<std::byte> add_read(int shard, const Part& part, std::size_t bytes);

  /// Copies the rows that the replies carried to their places. Must be called once all have come.
  void scatter_rows();

 private:
  // Rows in the reply of one server, and their places.
  struct Scatter {
    const std::byte* rows;
    std::vector<std::byte*> to;
    std::size_t row_bytes;
  };
  // The keys that one server holds, and the places of their rows.
  struct KeysOfShard {
    std::vector<std::uint64_t> keys;
    std::vector<std::byte*> rows;
  };

  std::byte* allocate(std::size_t bytes);
  Part range_part(std::uint32_t table, PartKind kind, int shard) const;
  std::vector<KeysOfShard> keys_by_shard(const TableValues& values, std::size_t row_bytes) const;
  void check_dense(const DenseTable& table, const TableValues& values) const;
  void check_rows(const SparseTable& table, std::size_t keys, const Buffer& values) const;
  std::int64_t rows_of(const DenseTable& table, const Buffer& gradient) const;

  void add_dense_gradient(std::uint32_t table, const Gradient& gradient, std::int64_t step);
  std::span<const std::byte> encoded(const Buffer& gradient, Range range, Compressor& compressor,
                                     std::int64_t step);
  std::span<const std::byte> rows_in_range(const Buffer& gradient, std::int64_t rows, Range range);
  void add_row_gradients(std::uint32_t table, const Gradient& gradient);
  void add_dense_read(std::uint32_t table, const TableValues& values);
  void add_row_read(std::uint32_t table, const TableValues& values);
  void add_dense_write(std::uint32_t table, const TableValues& values);
  void add_row_write(std::uint32_t table, const TableValues& values);
  bool is_sparse(std::uint32_t table) const { return table >= schema_.dense.size(); }
  const SparseTable& sparse(std::uint32_t table) const {
    return schema_.sparse[table - schema_.dense.size()];
  }

  const char* call_;
  const ModelSchema& schema_;
  std::vector<Message> messages_;
  std::vector<std::vector<std::span<std::byte>>> outputs_;
  std::vector<std::unique_ptr<std::uint64_t[]>> memory_;
  std::vector<Scatter> scatters_;
};

}  // namespace trireme::server
