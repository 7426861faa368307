#include "trireme/server/zmq/backup.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/server/zmq/endpoint.h"

namespace trireme::server {

namespace {

using namespace std::chrono_literals;

constexpr auto kLostAfter = 1s;

BackupLink::Options link_options(const ZmqServer::Options& options, const KeyPair& keys,
                                 std::int64_t version) {
  const std::string who = fmt::format("server {} of {}", options.shard, options.shards);
  check_endpoint(options.backup, who);
  if (options.standby) {
    throw UsageError(fmt::format("{}: is a backup itself, and has none", who));
  }
  if (keys.public_key.empty() ? !is_loopback(options.backup) : options.backup_key.empty()) {
    throw UsageError(
        fmt::format("{}: needs the public key of its backup at {}", who, options.backup));
  }
  BackupLink::Options link{
      .endpoint = options.backup,
      .name = fmt::format("the backup of {} at {}", who, options.backup),
      .keys = {},
      .backup_key = {},
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
    link.backup_key = read_public_key(options.backup_key);
  }
  return link;
}

}  // namespace

Backup::Backup(zmq::context_t& context, const ZmqServer::Options& options, const KeyPair& keys,
               Server& server)
    : link_(context, link_options(options, keys, server.version())) {
  server.keep_journal(&link_);
}

void Backup::keep(std::uint64_t to, const Message& answer, std::vector<zmq::message_t> bodies) {
  kept_.push_back({link_.appended(), to, answer, std::move(bodies)});
}

void Backup::look(const Send& send) {
  link_.look();
  while (!kept_.empty() && link_.has(kept_.front().entry)) {
    Kept& next = kept_.front();
    send(next.to, next.answer, std::move(next.bodies));
    kept_.pop_front();
  }
}

}  // namespace trireme::server
