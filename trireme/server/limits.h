#pragma once

#include <cstddef>

#include "trireme/server/message.h"
#include "trireme/server/server_state.h"
#include "trireme/server/store.h"

namespace trireme::server {

/// What one server may use: requests are checked before anything is allocated for them. All
/// functions throw UsageError.
struct Limits {
  ShardId shard;                    ///< for errors
  std::size_t max_reply_bytes = 0;  ///< values in one reply; 0: no limit
  std::size_t max_model_bytes = 0;  ///< all tables, with optimizer state and index; 0: no limit
  std::size_t max_held_bytes = 0;   ///< gradients that wait, decoded; 0: no limit

  /// Unless the tables of `schema` fit before they have rows.
  void check_schema(const ModelSchema& schema) const;
  /// Unless all tables fit with the rows that `message`, whose parts have been checked, and the
  /// pushes that wait will create.
  void check_rows(const ServerState& state, const Message& message) const;
  /// Unless the gradients of `push`, decoded, and of the pushes that wait fit.
  void check_gradients(const ServerState& state, const Message& push) const;
  /// Unless all parts of `request` that read are valid, none reads what another one reads, and
  /// their values fit into one reply.
  void check_reads(const Store& store, const Message& request) const;
};

}  // namespace trireme::server
