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
  /// Memory of each worker for what it pushes and pulls in one call; only touched pages cost
  /// memory.
  std::size_t payload_bytes = std::size_t{4} << 30;
};

/// Makes every rank of `world` a worker of servers that rank 0 runs in threads of its own, over the
/// shared memory of the ranks. No server has to be started or configured.
///
///     auto client = server::embedded(*world);
///     client->join({.dense = {{"w", 100}}, .consistency = {.workers = world->size()}});
///
/// Collective. Afterwards ranks wait for each other only through the servers, so that a lost rank
/// does not stop the others, except rank 0. The client must not outlive `world`. On rank 0 its
/// destructor waits until the other ranks have left. Throws UsageError if the ranks do not share
/// memory.
std::unique_ptr<Client> embedded(Communicator& world, EmbeddedOptions options = {});

}  // namespace trireme::server
