#include "trireme/server/limits.h"

#include <fmt/format.h>

#include "trireme/base/error.h"

namespace trireme::server {

void Limits::check_dense(const ModelSchema& schema) const {
  if (max_model_bytes == 0) return;
  const std::size_t bytes = Store::dense_bytes(schema, shard.index, shard.count);
  if (bytes <= max_model_bytes) return;
  throw UsageError(
      fmt::format("server {} of {}: may hold {} bytes, and its part of this model with the "
                  "optimizer's state takes {}; use more shards",
                  shard.index, shard.count, max_model_bytes, bytes));
}

void Limits::check_rows(const Store& store) const {
  if (max_model_bytes == 0 || store.row_bytes() <= max_model_bytes) return;
  throw UsageError(fmt::format(
      "server {} of {}: may hold {} bytes, and the rows of its sparse tables take {}; use more "
      "shards",
      shard.index, shard.count, max_model_bytes, store.row_bytes()));
}

void Limits::check_reads(const Store& store, const Message& request) const {
  std::size_t bytes = 0;
  for (const Part& part : request.parts) {
    if (part.is_gradient()) continue;
    store.check_read(part);
    bytes += store.bytes_of(part);
  }
  if (max_reply_bytes == 0 || bytes <= max_reply_bytes) return;
  throw UsageError(fmt::format(
      "server {} of {}: replies with at most {} bytes, and the request reads {}; read less at a "
      "time or use more shards",
      shard.index, shard.count, max_reply_bytes, bytes));
}

}  // namespace trireme::server
