#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "trireme/server/client.h"

namespace trireme::server {

struct ServersOptions {
  /// The servers of the model, in the order of their shards: "tcp://10.0.0.1:7000".
  std::vector<std::string> addresses;
  /// 1: each has a replica, and `addresses` continues with those of the replicas, in the same
  /// order.
  int replicas = 0;
  int worker = 0;
  std::chrono::milliseconds timeout = std::chrono::minutes(30);  ///< of each call

  std::string secret_key;                ///< this worker's file NAME.secret; empty: loopback only
  std::vector<std::string> server_keys;  ///< files NAME.key: one for each address, or one for all

  std::chrono::milliseconds connect_timeout = std::chrono::seconds(30);
  /// A server that is unreachable for longer is lost.
  std::chrono::milliseconds lost_after = std::chrono::seconds(10);
  /// A request without a reply is sent again after this time, then after twice that.
  std::chrono::milliseconds retry_after = std::chrono::seconds(30);
  std::chrono::milliseconds dead_after = std::chrono::seconds(60);
};

/// Makes this program a worker of servers that `trireme serve` runs.
///
///     auto client = server::connect_servers({.addresses = {"tcp://10.0.0.1:7000"}, .worker = 3,
///                                            .secret_key = "me.secret",
///                                            .server_keys = {"server.key"}});
///     client->join(schema);
///
/// Returns at once; the first call of the client waits for the servers. Throws UsageError for
/// invalid addresses, DataError for keys that cannot be read.
std::unique_ptr<Client> connect_servers(ServersOptions options);

/// The links alone.
std::vector<std::unique_ptr<Link>> links_to_servers(const ServersOptions& options);

}  // namespace trireme::server
