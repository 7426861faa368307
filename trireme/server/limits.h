#pragma once

#include <cstddef>

#include "trireme/server/message.h"
#include "trireme/server/store.h"

namespace trireme::server {

/// What one server may use: requests are checked before anything is allocated for them. All
/// functions throw UsageError.
struct Limits {
  ShardId shard;                    ///< for errors
  std::size_t max_reply_bytes = 0;  ///< values in one reply; 0: no limit
  std::size_t max_model_bytes = 0;  ///< values and optimizer state of all tables; 0: no limit

  /// Unless the dense tables of `schema` with their state fit.
  void check_dense(const ModelSchema& schema) const;
  /// Unless the rows of the sparse tables fit.
  void check_rows(const Store& store) const;
  /// Unless all parts of `request` that read are valid and their values fit into one reply.
  void check_reads(const Store& store, const Message& request) const;
};

}  // namespace trireme::server
