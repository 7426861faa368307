#include "trireme/server/zmq/replication.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/server/zmq/endpoint.h"

namespace trireme::server {

namespace {

using namespace std::chrono_literals;

constexpr auto kLostAfter = 1s;

ReplicaLink::Options link_options(const ZmqServer::Options& options, const KeyPair& keys,
                                  std::int64_t version) {
  const std::string who = fmt::format("server {} of {}", options.shard, options.shards);
  check_endpoint(options.replica, who);
  if (options.standby) {
    throw UsageError(fmt::format("{}: is a standby itself, and cannot have a replica", who));
  }
  if (keys.public_key.empty() ? !is_loopback(options.replica) : options.replica_key.empty()) {
    throw UsageError(
        fmt::format("{}: needs the public key of its replica at {}", who, options.replica));
  }
  ReplicaLink::Options link{
      .endpoint = options.replica,
      .name = fmt::format("the replica of {} at {}", who, options.replica),
      .keys = {},
      .replica_key = {},
      .shard = options.shard,
      .shards = options.shards,
      .version = version,
      .connect_timeout = options.connect_timeout,
      .lost_after = kLostAfter,
      .dead_after = options.dead_after,
      .log = options.log,
  };
  if (!keys.public_key.empty()) {
    link.keys = keys;
    link.replica_key = read_public_key(options.replica_key);
  }
  return link;
}

}  // namespace

Replication::Replication(zmq::context_t& context, const ZmqServer::Options& options,
                         const KeyPair& keys, Server& server)
    : link_(context, link_options(options, keys, server.version())) {
  server.set_replication_log(&link_);
}

void Replication::hold(std::uint64_t to, const Message& reply, std::vector<zmq::message_t> bodies) {
  held_.push_back({link_.appended(), to, reply, std::move(bodies)});
}

void Replication::poll(const Send& send) {
  link_.poll();
  while (!held_.empty() && link_.has(held_.front().entry)) {
    Held& next = held_.front();
    send(next.to, next.reply, std::move(next.bodies));
    held_.pop_front();
  }
}

}  // namespace trireme::server
