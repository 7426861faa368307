#include "trireme/server/zmq/standby.h"

#include <fmt/format.h>

#include <utility>

#include "trireme/base/error.h"

namespace trireme::server {

namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

std::optional<Message> Standby::reply(Request& request, ReplySink& sink) {
  const Message& message = request.message;
  if (message.type == MessageType::kReplicate) return replicate(request);
  if (is_primary(request.from)) {
    primary_->heard = Clock::now();
    if (message.type == MessageType::kPing) return std::nullopt;
    return apply(std::move(request), sink);
  }
  // Workers send heartbeats to a standby as well.
  if (message.type == MessageType::kPing) return std::nullopt;
  if (primary_is_gone()) {
    take_over();
    return std::nullopt;
  }
  return error_reply(
      message, ErrorCode::kStandby,
      fmt::format("server {} of {}: is a replica, and {}", options_.shard, options_.shards,
                  primary_ ? "its primary is alive" : "no primary has connected to it"));
}

Message Standby::replicate(const Request& request) {
  const Message& message = request.message;
  const std::uint64_t applied = primary_ ? primary_->applied : 0;
  if (const std::string why = why_not(message, applied); !why.empty()) {
    return error_reply(message, ErrorCode::kUsage, why);
  }
  if (!primary_) {
    options_.log(fmt::format("replicates server {} of {}", options_.shard, options_.shards));
  }
  primary_ = {.incarnation = message.incarnation,
              .from = request.from,
              .next_entry = message.entry,
              .applied = applied,
              .heard = Clock::now()};
  return reply_to(message, server_.version());
}

// Why it does not replicate the server that asks for it; empty: it does.
std::string Standby::why_not(const Message& request, std::uint64_t applied) const {
  if (request.shard != ShardId{options_.shard, options_.shards}) {
    return fmt::format("it is the replica of server {} of {}, not of {} of {}", options_.shard,
                       options_.shards, request.shard.index, request.shard.count);
  }
  if (primary_ && primary_->incarnation != request.incarnation) {
    return "it replicates another server already";
  }
  if (request.entry > applied + 1) {
    return fmt::format("the {} entries before {} have not arrived", request.entry - applied - 1,
                       request.entry);
  }
  if (applied == 0 && request.version != server_.version()) {
    return fmt::format(
        "it begins after {} updates and the primary after {}; restore both from the same files",
        server_.version(), request.version);
  }
  return "";
}

Message Standby::apply(Request entry, ReplySink& sink) {
  const std::uint64_t number = primary_->next_entry++;
  // Otherwise it arrived over an earlier connection.
  if (number > primary_->applied) {
    if (entry.message.type == MessageType::kLost) workers_.forget(entry.message.worker);
    applying_ = entry.message.sequence;
    server_.apply_log_entry(std::move(entry), sink);
    applying_.reset();
    primary_->applied = number;
  }
  return {.type = MessageType::kReply, .version = server_.version(), .entry = number};
}

void Standby::check_applied(const Request& entry, const Message& reply) const {
  // A communication error is the primary's reply as well: the worker was lost or has failed.
  if (reply.type != MessageType::kError || reply.error == ErrorCode::kComm) return;
  if (applying_ != entry.message.sequence) return;
  throw CommError(fmt::format("server {} of {}: cannot replicate its primary: {}", options_.shard,
                              options_.shards, reply.reason));
}

bool Standby::primary_is_gone() {
  if (!primary_) return false;
  if (Clock::now() - primary_->heard > options_.dead_after) return true;
  return !socket_.probe(primary_->from, kObserver);
}

void Standby::take_over() {
  options_.log(fmt::format("takes over after {} updates: its primary is gone", server_.version()));
  is_waiting_ = false;
  workers_.expect_all();
}

}  // namespace trireme::server
