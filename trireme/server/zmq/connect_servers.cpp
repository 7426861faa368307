#include "trireme/server/zmq/connect_servers.h"

#include <fmt/format.h>

#include <algorithm>
#include <zmq.hpp>

#include "trireme/base/error.h"
#include "trireme/server/zmq/endpoint.h"
#include "trireme/server/zmq/failover_link.h"
#include "trireme/server/zmq/keys.h"
#include "trireme/server/zmq/zmq_link.h"

namespace trireme::server {

namespace {

void check(const ServersOptions& options) {
  if (options.addresses.empty()) {
    throw UsageError("parameter server: the address of a server is wanted, got none");
  }
  if (options.replicas < 0 || options.replicas > 1) {
    throw UsageError(
        fmt::format("parameter server: a server has 0 or 1 replicas, got {}", options.replicas));
  }
  if (options.addresses.size() % static_cast<std::size_t>(options.replicas + 1) != 0) {
    throw UsageError(
        fmt::format("parameter server: with replicas = 1 the addresses of all servers are wanted "
                    "and then those of their replicas, got {} addresses",
                    options.addresses.size()));
  }
  const std::size_t keys = options.server_keys.size();
  if (options.secret_key.empty() != options.server_keys.empty()) {
    throw UsageError(
        "parameter server: needs both this worker's secret key and the servers' public keys, got "
        "only one of them");
  }
  if (keys > 1 && keys != options.addresses.size()) {
    throw UsageError(
        fmt::format("parameter server: {} servers need one public key each, or one for all, got {}",
                    options.addresses.size(), keys));
  }
  for (const std::string& address : options.addresses) {
    check_endpoint(address, "parameter server");
    if (keys == 0 && !is_loopback(address)) {
      throw UsageError(fmt::format(
          "parameter server: {} is not on this host: a secret key and the server's public key are "
          "needed; make them with `trireme keys new`",
          address));
    }
  }
}

}  // namespace

std::vector<std::unique_ptr<Link>> links_to_servers(const ServersOptions& options) {
  check(options);
  ZmqLink::Options link{.connect_timeout = options.connect_timeout,
                        .lost_after = options.lost_after,
                        .retry_after = options.retry_after,
                        .dead_after = options.dead_after};
  if (!options.secret_key.empty()) link.keys = read_key_pair(options.secret_key);
  const auto context = std::make_shared<zmq::context_t>(1);
  const std::size_t shards =
      options.addresses.size() / static_cast<std::size_t>(options.replicas + 1);
  if (options.replicas > 0) {
    link.connect_timeout = std::min(link.connect_timeout, FailoverLink::kTryOtherAfter);
    link.lost_after = std::min(link.lost_after, FailoverLink::kTryOtherAfter);
  }
  std::vector<std::shared_ptr<ZmqLink::Pair>> pairs(shards);
  if (options.replicas > 0) {
    for (auto& pair : pairs) pair = std::make_shared<ZmqLink::Pair>();
  }
  std::vector<std::unique_ptr<ZmqLink>> all;
  for (std::size_t i = 0; i < options.addresses.size(); ++i) {
    link.endpoint = options.addresses[i];
    link.pair = pairs[i % shards];
    link.name = fmt::format("{} {} of {} at {}", i < shards ? "server" : "the replica of server",
                            i % shards, shards, options.addresses[i]);
    if (link.keys) {
      const auto& keys = options.server_keys;
      link.server_key = read_public_key(keys[keys.size() == 1 ? 0 : i]);
    }
    all.push_back(std::make_unique<ZmqLink>(context, link));
  }
  std::vector<std::unique_ptr<Link>> links;
  for (std::size_t shard = 0; shard < shards; ++shard) {
    if (options.replicas == 0) {
      links.push_back(std::move(all[shard]));
    } else {
      links.push_back(std::make_unique<FailoverLink>(std::move(all[shard]),
                                                     std::move(all[shards + shard]), pairs[shard],
                                                     options.connect_timeout, options.lost_after));
    }
  }
  return links;
}

std::unique_ptr<Client> connect_servers(ServersOptions options) {
  return std::make_unique<Client>(
      links_to_servers(options),
      Client::Options{.worker = options.worker, .timeout = options.timeout});
}

}  // namespace trireme::server
