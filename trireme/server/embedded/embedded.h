#pragma once

#include <chrono>
#include <cstddef>
#include <memory>

#include "trireme/comm/communicator.h"
#include "trireme/server/client.h"

namespace trireme::server {

struct EmbeddedOptions {
  int shards = 1;
  std::chrono::milliseconds timeout = std::chrono::minutes(30);
  /// Memory of each worker for what it pushes and pulls at a time; costs what is touched.
  std::size_t payload_bytes = std::size_t{4} << 30;
};

/// Makes every rank of `world` a worker of servers that rank 0 runs in threads of its own, over the
/// memory that the ranks share: nothing to start, nothing to configure.
///
///     auto client = server::embedded(*world);
///     client->join({.dense = {{"w", 100}}, .consistency = {.workers = world->size()}});
///
/// Collective; afterwards no rank waits for another but through the servers, so that one that is
/// lost does not stop the others, unless it is rank 0. The client must not outlive `world`. On rank
/// 0 its destructor waits until the others have left. Throws UsageError if the ranks do not share
/// memory.
std::unique_ptr<Client> embedded(Communicator& world, EmbeddedOptions options = {});

}  // namespace trireme::server
