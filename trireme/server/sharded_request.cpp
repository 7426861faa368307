#include "trireme/server/sharded_request.h"

#include <fmt/format.h>

#include <cstring>
#include <string>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/base/text.h"

namespace trireme::server {

namespace {

std::span<const std::byte> bytes_in(const Buffer& buffer) {
  return {static_cast<const std::byte*>(buffer.data), buffer.bytes()};
}

std::span<std::byte> writable_bytes_in(const Buffer& buffer) {
  return {static_cast<std::byte*>(buffer.data), buffer.bytes()};
}

std::size_t row_bytes_of(const SparseTable& table) {
  return static_cast<std::size_t>(table.width) * sizeof(float);
}

}  // namespace

ShardedRequest::ShardedRequest(const char* call, MessageType type, const ModelSchema& schema,
                               int shards)
    : call_(call),
      schema_(schema),
      messages_(static_cast<std::size_t>(shards)),
      outputs_(static_cast<std::size_t>(shards)) {
  for (Message& message : messages_) message.type = type;
}

std::uint32_t ShardedRequest::table_of(std::string_view name) const {
  std::uint32_t table = 0;
  std::vector<std::string> names;
  const auto find = [&](const auto& tables) {
    for (const auto& one : tables) {
      if (one.name == name) return true;
      names.push_back(one.name);
      ++table;
    }
    return false;
  };
  if (find(schema_.dense) || find(schema_.sparse)) return table;
  const std::string meant = nearest(std::string(name), names);
  throw UsageError(fmt::format("{}: the model schema has no table \"{}\"{}", call_, name,
                               meant.empty() ? "" : fmt::format("; did you mean \"{}\"?", meant)));
}

std::byte* ShardedRequest::allocate(std::size_t bytes) {
  memory_.push_back(std::make_unique<std::uint64_t[]>((bytes + 7) / 8));
  return reinterpret_cast<std::byte*>(memory_.back().get());
}

Part ShardedRequest::range_part(std::uint32_t table, PartKind kind, int shard) const {
  const Range range = range_of(schema_, table, shard, shards());
  return {.table = table, .kind = kind, .first = range.begin, .count = range.size()};
}

void ShardedRequest::check_dense(const DenseTable& table, const TableValues& values) const {
  const Buffer& got = values.values;
  if (got.count == table.count && got.dtype == table.dtype) return;
  throw UsageError(fmt::format("{}: {} is {}[{}], got {}[{}]", call_, table.name,
                               name_of(table.dtype), table.count, name_of(got.dtype), got.count));
}

void ShardedRequest::check_rows(const SparseTable& table, std::size_t keys,
                                const Buffer& values) const {
  const auto rows = static_cast<std::int64_t>(keys);
  if (values.dtype == DType::kF32 && values.count == rows * table.width) return;
  throw UsageError(fmt::format("{}: {} wants f32[{}, {}] for {} keys, got {}[{}]", call_,
                               table.name, rows, table.width, rows, name_of(values.dtype),
                               values.count));
}

// The partial sums in a dense gradient.
std::int64_t ShardedRequest::rows_of(const DenseTable& table, const Buffer& gradient) const {
  const std::int64_t rows = table.count > 0 ? gradient.count / table.count : 1;
  if (rows * table.count == gradient.count && gradient.dtype == table.dtype) return rows;
  throw UsageError(fmt::format("{}: {} wants rows of {}[{}], got {}[{}]", call_, table.name,
                               name_of(table.dtype), table.count, name_of(gradient.dtype),
                               gradient.count));
}

void ShardedRequest::add_gradient(const Gradient& gradient, std::int64_t step) {
  const std::uint32_t table = table_of(gradient.table);
  if (is_sparse(table)) {
    add_row_gradients(table, gradient);
  } else {
    add_dense_gradient(table, gradient, step);
  }
}

void ShardedRequest::add_dense_gradient(std::uint32_t table, const Gradient& gradient,
                                        std::int64_t step) {
  const std::int64_t rows = rows_of(schema_.dense[table], gradient.values);
  for (int shard = 0; shard < shards(); ++shard) {
    Part part = range_part(table, PartKind::kGradient, shard);
    part.empty = gradient.empty;
    const Range range{part.first, part.first + part.count};
    // A gradient that is not applied must not take anything from the residual.
    if (!gradient.compressors.empty() && part.count > 0 && !gradient.empty) {
      part.kind = PartKind::kEncodedGradient;
      part.payload = encoded(gradient.values, range,
                             gradient.compressors[static_cast<std::size_t>(shard)], step);
    } else {
      part.payload = rows_in_range(gradient.values, rows, range);
    }
    message(shard).parts.push_back(part);
  }
}

std::span<const std::byte> ShardedRequest::encoded(const Buffer& gradient, Range range,
                                                   Compressor& compressor, std::int64_t step) {
  const std::span<std::byte> payload(allocate(compressor.bytes()), compressor.bytes());
  compressor.encode(gradient.slice(range.begin, range.size()), step, payload);
  return payload;
}

// The range of each row, in place where the payload is contiguous.
std::span<const std::byte> ShardedRequest::rows_in_range(const Buffer& gradient, std::int64_t rows,
                                                         Range range) {
  const std::int64_t count = rows > 0 ? gradient.count / rows : 0;
  if (rows == 1 || range.size() == count) {
    return bytes_in(gradient.slice(range.begin, rows * range.size()));
  }
  const std::size_t row_bytes = gradient.slice(range.begin, range.size()).bytes();
  const std::span<std::byte> copy(allocate(static_cast<std::size_t>(rows) * row_bytes),
                                  static_cast<std::size_t>(rows) * row_bytes);
  for (std::int64_t row = 0; row < rows; ++row) {
    std::memcpy(copy.data() + static_cast<std::size_t>(row) * row_bytes,
                gradient.slice(row * count + range.begin, range.size()).data, row_bytes);
  }
  return copy;
}

void ShardedRequest::add_row_gradients(std::uint32_t table, const Gradient& gradient) {
  check_rows(sparse(table), gradient.keys.size(), gradient.values);
  const std::size_t row_bytes = row_bytes_of(sparse(table));
  std::vector<std::int64_t> counts(messages_.size());
  for (const std::uint64_t key : gradient.keys) ++counts[shard_of(key, shards())];
  std::vector<std::uint64_t*> next_key;
  std::vector<std::byte*> next_row;
  for (int shard = 0; shard < shards(); ++shard) {
    const auto count = static_cast<std::size_t>(counts[shard]);
    const std::size_t bytes = count * (sizeof(std::uint64_t) + row_bytes);
    std::byte* const payload = allocate(bytes);
    next_key.push_back(reinterpret_cast<std::uint64_t*>(payload));
    next_row.push_back(payload + count * sizeof(std::uint64_t));
    message(shard).parts.push_back({.table = table,
                                    .kind = PartKind::kRowGradients,
                                    .count = counts[shard],
                                    .payload = {payload, bytes}});
  }
  const auto* row = static_cast<const std::byte*>(gradient.values.data);
  for (const std::uint64_t key : gradient.keys) {
    const int shard = shard_of(key, shards());
    *next_key[shard]++ = key;
    std::memcpy(next_row[shard], row, row_bytes);
    next_row[shard] += row_bytes;
    row += row_bytes;
  }
}

void ShardedRequest::add_read(const TableValues& values) {
  const std::uint32_t table = table_of(values.table);
  if (is_sparse(table)) {
    add_row_read(table, values);
  } else {
    add_dense_read(table, values);
  }
}

void ShardedRequest::add_write(const TableValues& values) {
  const std::uint32_t table = table_of(values.table);
  if (is_sparse(table)) {
    add_row_write(table, values);
  } else {
    add_dense_write(table, values);
  }
}

std::span<std::byte> ShardedRequest::add_read(int shard, const Part& part, std::size_t bytes) {
  message(shard).parts.push_back(part);
  return outputs_[static_cast<std::size_t>(shard)].emplace_back(allocate(bytes), bytes);
}

void ShardedRequest::add_dense_read(std::uint32_t table, const TableValues& values) {
  check_dense(schema_.dense[table], values);
  for (int shard = 0; shard < shards(); ++shard) {
    Part part = range_part(table, PartKind::kReadRange, shard);
    part.array = values.array;
    outputs_[static_cast<std::size_t>(shard)].push_back(
        writable_bytes_in(values.values.slice(part.first, part.count)));
    message(shard).parts.push_back(part);
  }
}

void ShardedRequest::add_dense_write(std::uint32_t table, const TableValues& values) {
  check_dense(schema_.dense[table], values);
  for (int shard = 0; shard < shards(); ++shard) {
    Part part = range_part(table, PartKind::kValues, shard);
    part.array = values.array;
    part.payload = bytes_in(values.values.slice(part.first, part.count));
    message(shard).parts.push_back(part);
  }
}

std::vector<ShardedRequest::KeysOfShard> ShardedRequest::keys_by_shard(
    const TableValues& values, std::size_t row_bytes) const {
  std::vector<KeysOfShard> all(messages_.size());
  auto* row = static_cast<std::byte*>(values.values.data);
  for (const std::uint64_t key : values.keys) {
    KeysOfShard& one = all[static_cast<std::size_t>(shard_of(key, shards()))];
    one.keys.push_back(key);
    one.rows.push_back(row);
    row += row_bytes;
  }
  return all;
}

void ShardedRequest::add_row_read(std::uint32_t table, const TableValues& values) {
  check_rows(sparse(table), values.keys.size(), values.values);
  const std::size_t row_bytes = row_bytes_of(sparse(table));
  std::vector<KeysOfShard> all = keys_by_shard(values, row_bytes);
  for (int shard = 0; shard < shards(); ++shard) {
    KeysOfShard& mine = all[static_cast<std::size_t>(shard)];
    const std::size_t bytes = mine.keys.size() * row_bytes;
    const std::size_t key_bytes = mine.keys.size() * sizeof(std::uint64_t);
    std::byte* const keys = allocate(key_bytes);
    if (key_bytes > 0) std::memcpy(keys, mine.keys.data(), key_bytes);
    const Part part{.table = table,
                    .kind = PartKind::kReadRows,
                    .array = values.array,
                    .count = std::ssize(mine.keys),
                    .payload = {keys, key_bytes}};
    if (shards() == 1) {  // the rows come in the order of the keys
      message(shard).parts.push_back(part);
      outputs_[static_cast<std::size_t>(shard)].push_back(writable_bytes_in(values.values));
    } else {
      const std::span<std::byte> rows = add_read(shard, part, bytes);
      scatters_.push_back({rows.data(), std::move(mine.rows), row_bytes});
    }
  }
}

void ShardedRequest::add_row_write(std::uint32_t table, const TableValues& values) {
  check_rows(sparse(table), values.keys.size(), values.values);
  const std::size_t row_bytes = row_bytes_of(sparse(table));
  const std::vector<KeysOfShard> all = keys_by_shard(values, row_bytes);
  for (int shard = 0; shard < shards(); ++shard) {
    const KeysOfShard& mine = all[static_cast<std::size_t>(shard)];
    const std::size_t key_bytes = mine.keys.size() * sizeof(std::uint64_t);
    const std::size_t bytes = key_bytes + mine.keys.size() * row_bytes;
    std::byte* const payload = allocate(bytes);
    if (key_bytes > 0) std::memcpy(payload, mine.keys.data(), key_bytes);
    for (std::size_t i = 0; i < mine.rows.size(); ++i) {
      std::memcpy(payload + key_bytes + i * row_bytes, mine.rows[i], row_bytes);
    }
    message(shard).parts.push_back({.table = table,
                                    .kind = PartKind::kRowValues,
                                    .array = values.array,
                                    .count = std::ssize(mine.keys),
                                    .payload = {payload, bytes}});
  }
}

void ShardedRequest::scatter_rows() {
  for (const Scatter& scatter : scatters_) {
    const std::byte* from = scatter.rows;
    for (std::byte* const to : scatter.to) {
      std::memcpy(to, from, scatter.row_bytes);
      from += scatter.row_bytes;
    }
  }
}

}  // namespace trireme::server
