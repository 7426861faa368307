#include "trireme/server/limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "trireme/base/error.h"

namespace trireme::server {

namespace {

// Of dense ranges and lists of keys; a key of a row may be named twice, as a sample has it.
bool is_range(const Part& part) {
  return part.kind == PartKind::kReadRange || part.kind == PartKind::kReadKeys;
}

// Two parts that read the same elements would make a small request a large reply.
void check_apart(const ShardId& shard, const Message& request) {
  std::vector<Part> ranges;
  for (const Part& part : request.parts) {
    if (is_range(part) && part.count > 0) ranges.push_back(part);
  }
  std::ranges::sort(ranges, {}, [](const Part& part) {
    return std::tuple(part.table, part.kind, part.array, part.first);
  });
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    const Part& before = ranges[i - 1];
    const Part& part = ranges[i];
    const bool same_array =
        before.table == part.table && before.kind == part.kind && before.array == part.array;
    if (!same_array || part.first >= before.first + before.count) continue;
    throw UsageError(fmt::format(
        "server {} of {}: a request may read each element once, and it reads {} to {} of table "
        "number {} twice; name each range once",
        shard.index, shard.count, part.first,
        std::min(part.first + part.count, before.first + before.count), part.table));
  }
}

}  // namespace

void Limits::check_schema(const ModelSchema& schema) const {
  if (max_model_bytes == 0) return;
  const std::size_t bytes = Store::initial_bytes(schema, shard.index, shard.count);
  if (bytes <= max_model_bytes) return;
  throw UsageError(
      fmt::format("server {} of {}: may hold {} bytes, and its part of this model with the "
                  "optimizer's state takes {}; use more shards",
                  shard.index, shard.count, max_model_bytes, bytes));
}

void Limits::check_rows(const ServerState& state, const Message& message) const {
  if (max_model_bytes == 0 || state.store->schema().sparse.empty()) return;
  std::vector<const Message*> messages = {&message};
  for (const auto& [worker, push] : state.pending_pushes) messages.push_back(&push.message);
  const std::size_t bytes = state.store->bytes_with(messages);
  if (bytes <= max_model_bytes) return;
  throw UsageError(fmt::format(
      "server {} of {}: may hold {} bytes, and with the rows of this request its tables take {}; "
      "use more shards",
      shard.index, shard.count, max_model_bytes, bytes));
}

void Limits::check_gradients(const ServerState& state, const Message& push) const {
  if (max_held_bytes == 0) return;
  std::size_t bytes = 0;
  for (const Part& part : push.parts) {
    if (part.is_gradient()) bytes += state.store->gradient_bytes(part);
  }
  for (const auto& [worker, pending] : state.pending_pushes) {
    bytes += pending.message.payload_bytes();
  }
  if (bytes <= max_held_bytes) return;
  throw UsageError(fmt::format(
      "server {} of {}: may hold {} bytes of gradients that wait, and with this push, decoded, "
      "they are {}; use more shards or fewer workers",
      shard.index, shard.count, max_held_bytes, bytes));
}

void Limits::check_reads(const Store& store, const Message& request) const {
  std::size_t bytes = 0;
  for (const Part& part : request.parts) {
    if (part.is_gradient()) continue;
    store.check_read(part);
    if (__builtin_add_overflow(bytes, store.bytes_of(part), &bytes)) {
      throw UsageError("message: it reads more than any memory holds");
    }
  }
  if (max_reply_bytes > 0 && bytes > max_reply_bytes) {
    throw UsageError(fmt::format(
        "server {} of {}: replies with at most {} bytes, and the request reads {}; read less at a "
        "time or use more shards",
        shard.index, shard.count, max_reply_bytes, bytes));
  }
  check_apart(shard, request);
}

}  // namespace trireme::server
