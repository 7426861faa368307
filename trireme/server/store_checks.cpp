// What a Store checks of the parts of messages before it uses them.
#include <fmt/format.h>

#include <cmath>

#include "trireme/base/error.h"
#include "trireme/kernels/norm.h"
#include "trireme/server/store.h"

namespace trireme::server {

namespace {

// Bytes of `rows` arrays of `count` elements. Throws UsageError if a hostile count overflows.
std::size_t product(std::int64_t count, std::int64_t rows, std::size_t size) {
  std::size_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<std::size_t>(count), static_cast<std::size_t>(rows),
                             &bytes) ||
      __builtin_mul_overflow(bytes, size, &bytes)) {
    throw UsageError("message: a part is larger than any memory");
  }
  return bytes;
}

}  // namespace

void Store::check_table(const Part& part, bool sparse) const {
  const std::size_t tables = schema_.dense.size() + schema_.sparse.size();
  if (part.table >= tables) {
    throw UsageError(
        fmt::format("message: the model has {} tables, got number {}", tables, part.table));
  }
  if (is_sparse(part) != sparse) {
    throw UsageError(fmt::format("{}: is a {} table, got a part for a {} one", table_of(part),
                                 sparse ? "dense" : "sparse", sparse ? "sparse" : "dense"));
  }
}

void Store::check_range(const Part& part) const {
  const Range mine = dense_of(part).range;
  if (part.first >= mine.begin && part.first + part.count <= mine.end) return;
  throw UsageError(fmt::format("{}: server {} of {} holds elements {} to {}, got {} to {}",
                               table_of(part), shard_, shards_, mine.begin, mine.end, part.first,
                               part.first + part.count));
}

void Store::check_payload(const Part& part, std::size_t bytes) const {
  if (part.payload.size() == bytes) return;
  throw UsageError(
      fmt::format("{}: {} bytes are wanted, got {}", table_of(part), bytes, part.payload.size()));
}

void Store::check_keys(const Part& part) const {
  for (const std::uint64_t key : keys_of(part)) {
    if (shard_of(key, shards_) == shard_) continue;
    throw UsageError(fmt::format("{}: the row of key {} lies on server {} of {}, not on {}",
                                 table_of(part), key, shard_of(key, shards_), shards_, shard_));
  }
}

int Store::arrays_of(const Part& part) const {
  if (is_sparse(part)) return rows_of(part).arrays();
  const Dense& dense = dense_[part.table];
  if (!dense.arrays.empty()) return static_cast<int>(dense.arrays.size());
  return 1 + static_cast<int>(optimizer_->state_arrays().size());
}

void Store::check_array(const Part& part) const {
  if (part.array < arrays_of(part) || part.array == kStepArray) return;
  throw UsageError(
      fmt::format("{}: has {} arrays, got number {}", table_of(part), arrays_of(part), part.array));
}

void Store::check_gradients(const Message& push, std::int64_t rows) const {
  std::vector<bool> seen(schema_.dense.size() + schema_.sparse.size());
  for (const Part& part : push.parts) {
    if (!part.is_gradient()) continue;
    const bool sparse = part.kind == PartKind::kRowGradients;
    check_table(part, sparse);
    if (seen[part.table]) throw UsageError(table_of(part) + ": comes twice in one push");
    seen[part.table] = true;
    if (sparse) {
      check_row_gradients(part);
    } else {
      check_dense_gradient(part, rows);
    }
  }
}

void Store::check_row_gradients(const Part& part) const {
  const auto width = static_cast<std::size_t>(rows_of(part).width());
  check_payload(part, product(part.count, 1, sizeof(std::uint64_t) + width * sizeof(float)));
  check_keys(part);
}

void Store::check_dense_gradient(const Part& part, std::int64_t rows) const {
  const Range mine = dense_of(part).range;
  if (part.first != mine.begin || part.count != mine.size()) {
    throw UsageError(
        fmt::format("{}: a gradient of the elements {} to {} that server {} of {} holds is wanted, "
                    "got {} to {}",
                    table_of(part), mine.begin, mine.end, shard_, shards_, part.first,
                    part.first + part.count));
  }
  if (part.kind != PartKind::kEncodedGradient) {
    return check_payload(part, product(part.count, rows, size_of(schema_.dense[part.table].dtype)));
  }
  if (rows == 1) return;  // decoded() checks the payload
  throw UsageError(
      fmt::format("{}: {} partial sums of a reduction tree are wanted, which no codec carries; "
                  "push them without "
                  "a compressor, or push means",
                  table_of(part), rows));
}

void Store::check_finite(const Part& part) const {
  const bool carries = part.kind == PartKind::kGradient || part.kind == PartKind::kRowGradients ||
                       part.kind == PartKind::kValues || part.kind == PartKind::kRowValues;
  if (!carries || part.array == kStepArray) return;
  std::span<const std::byte> bytes = part.payload;
  DType dtype = DType::kF32;
  if (is_sparse(part)) {
    bytes = bytes.subspan(static_cast<std::size_t>(part.count) * sizeof(std::uint64_t));
  } else {
    dtype = schema_.dense[part.table].dtype;
  }
  const auto count = static_cast<std::int64_t>(bytes.size() / size_of(dtype));
  if (all_finite({const_cast<std::byte*>(bytes.data()), count, dtype})) return;
  const auto value_at = [&](std::int64_t i) {
    if (dtype == DType::kF64) return reinterpret_cast<const double*>(bytes.data())[i];
    return static_cast<double>(reinterpret_cast<const float*>(bytes.data())[i]);
  };
  std::int64_t at = 0;
  while (std::isfinite(value_at(at))) ++at;
  throw UsageError(fmt::format(
      "{}: a {} must have finite values, got {} in element {} of {}; nothing of the request has "
      "been applied",
      table_of(part), part.is_gradient() ? "gradient" : "table", value_at(at), at, count));
}

void Store::check_read(const Part& part) const {
  const bool sparse = part.kind == PartKind::kReadRows || part.kind == PartKind::kReadKeys;
  if (!sparse && part.kind != PartKind::kReadRange) {
    throw UsageError("message: a part that reads values is wanted, got one that carries them");
  }
  check_table(part, sparse);
  check_array(part);
  if (part.kind == PartKind::kReadRange) return check_range(part);
  if (part.kind == PartKind::kReadKeys) return check_payload(part, 0);
  check_payload(part, product(part.count, 1, sizeof(std::uint64_t)));
  check_keys(part);
}

void Store::check_write(const Part& part) const {
  const bool sparse = part.kind == PartKind::kRowValues;
  if (!sparse && part.kind != PartKind::kValues) {
    throw UsageError("message: a part that carries values is wanted, got another kind");
  }
  check_table(part, sparse);
  const bool steps = part.array == kStepArray;
  check_array(part);
  if (!sparse) {
    check_range(part);
    const DType dtype = steps ? DType::kI64 : schema_.dense[part.table].dtype;
    return check_payload(part, product(steps ? 1 : part.count, 1, size_of(dtype)));
  }
  const auto width = static_cast<std::size_t>(rows_of(part).width());
  const std::size_t row = steps ? sizeof(std::int64_t) : width * sizeof(float);
  check_payload(part, product(part.count, 1, sizeof(std::uint64_t) + row));
  check_keys(part);
}

}  // namespace trireme::server
