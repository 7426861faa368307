#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "trireme/server/client.h"

namespace trireme::server {

struct ServersOptions {
  /// Of all servers of the model, in the order of their shards: "tcp://10.0.0.1:7000".
  std::vector<std::string> addresses;
  /// 1: each has a backup, and `addresses` go on with those of the backups, in the same order.
  int replicas = 0;
  int worker = 0;
  std::chrono::milliseconds timeout = std::chrono::minutes(30);  ///< of each call

  std::string secret_key;                ///< this worker's file NAME.secret; without, only loopback
  std::vector<std::string> server_keys;  ///< files NAME.key: one for each address, or one for all

  std::chrono::milliseconds connect_timeout = std::chrono::seconds(30);
  /// A server that is away for longer is lost.
  std::chrono::milliseconds lost_after = std::chrono::seconds(10);
  /// An answer that has not come by then is asked for again, then after twice that.
  std::chrono::milliseconds retry_after = std::chrono::seconds(30);
  std::chrono::milliseconds dead_after = std::chrono::seconds(60);
};

/// Makes this program a worker of servers that `trireme serve` runs.
///
///     auto client = server::connect_servers({.addresses = {"tcp://10.0.0.1:7000"}, .worker = 3,
///                                            .secret_key = "me.secret",
///                                            .server_keys = {"server.key"}});
///     client->join(declaration);
///
/// Comes back at once; the first call finds out who is there. Throws UsageError for addresses that
/// are none, DataError for keys that cannot be read.
std::unique_ptr<Client> connect_servers(ServersOptions options);

/// The links by themselves, for programs that only look.
std::vector<std::unique_ptr<Link>> links_to_servers(const ServersOptions& options);

}  // namespace trireme::server
