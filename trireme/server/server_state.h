#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "trireme/server/membership.h"
#include "trireme/server/request.h"
#include "trireme/server/store.h"
#include "trireme/server/version_vector.h"

namespace trireme::server {

/// What a server and its parts (consistency policy, read queue, snapshot) know.
struct ServerState {
  std::unique_ptr<Store> store;  ///< null until the model schema is known
  Membership members;
  std::int64_t version = 0;                         ///< updates made
  std::map<std::uint32_t, Request> pending_pushes;  ///< by worker: in the log, waiting for others
  std::optional<VersionVector> frontier;  ///< of a snapshot: pushes that it does not contain wait
  std::string failure;                    ///< why training cannot continue; empty: it can
  bool has_failed_worker = false;         ///< that is why: a worker has said so
};

}  // namespace trireme::server
