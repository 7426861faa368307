#include "trireme/server/client.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <limits>
#include <optional>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/base/hash.h"
#include "trireme/base/text.h"

namespace trireme::server {

namespace {

constexpr std::int64_t kKeysAtATime = 1 << 20;
constexpr std::size_t kMostReasonBytes = 1000;

std::uint64_t new_incarnation() {
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  return mix_bits(static_cast<std::uint64_t>(now) ^
                  (static_cast<std::uint64_t>(::getpid()) << 40)) |
         1;
}

[[noreturn]] void throw_error(const Link& link, const Message& reply) {
  switch (reply.error) {
    case ErrorCode::kUsage:
      throw UsageError(reply.reason);
    case ErrorCode::kData:
      throw DataError(fmt::format("{}: {}", link.name(), reply.reason));
    default:
      throw CommError("parameter server: " + reply.reason);
  }
}

template <class Field>
std::int64_t smallest(std::span<const Message> replies, Field field) {
  std::int64_t smallest = std::numeric_limits<std::int64_t>::max();
  for (const Message& reply : replies) smallest = std::min(smallest, reply.*field);
  return smallest;
}

bool moves_clock(MessageType type) {
  return type == MessageType::kJoin || type == MessageType::kPush || type == MessageType::kPull;
}

}  // namespace

Client::Client(std::vector<std::unique_ptr<Link>> links, Options options)
    : links_(std::move(links)), options_(options), incarnation_(new_incarnation()) {}

Client::~Client() {
  if (!joined_ || std::uncaught_exceptions() > 0) return;
  try {
    leave();
  } catch (const Error&) {
    // The servers are lost, and the other workers notice it themselves.
  }
}

ShardedRequest Client::new_request(const char* call, MessageType type) const {
  const bool may_observe = type == MessageType::kFetch || type == MessageType::kSnapshot;
  const bool has_come = joined_ || has_left_ || (may_observe && has_schema_);
  if (!has_come && type != MessageType::kJoin && type != MessageType::kLeave) {
    throw UsageError(
        fmt::format("{}: worker {} has not joined the servers; call join(schema){} first", call,
                    options_.worker, may_observe ? " or observe()" : ""));
  }
  return {call, type, schema_, shards()};
}

void Client::send(ShardedRequest& request) {
  if (has_left_) {
    throw UsageError(
        fmt::format("{}: worker {} has left the servers", request.call(), options_.worker));
  }
  ++sequence_;
  for (int shard = 0; shard < shards(); ++shard) {
    Message& message = request.message(shard);
    const bool may_observe =
        message.type == MessageType::kFetch || message.type == MessageType::kSnapshot;
    message.worker =
        may_observe && !joined_ ? kObserver : static_cast<std::uint32_t>(options_.worker);
    message.incarnation = incarnation_;
    message.sequence = sequence_;
    message.clock = clock_;
    links_[static_cast<std::size_t>(shard)]->send(message, request.outputs(shard));
  }
}

std::vector<Message> Client::run(ShardedRequest& request) {
  const auto deadline = std::chrono::steady_clock::now() + options_.timeout;
  send(request);
  // All replies are received, also after an error, so that the links can take the next request.
  std::vector<Message> replies;
  for (std::size_t shard = 0; shard < links_.size(); ++shard) {
    replies.push_back(receive(request.call(), shard, deadline));
  }
  for (std::size_t shard = 0; shard < links_.size(); ++shard) {
    if (replies[shard].type == MessageType::kError) throw_error(*links_[shard], replies[shard]);
  }
  request.scatter_rows();
  if (moves_clock(request.type())) clock_ = smallest(replies, &Message::clock);
  return replies;
}

Message Client::receive(const char* call, std::size_t shard, Link::Deadline deadline) {
  Link& link = *links_[shard];
  try {
    Message reply = link.receive(deadline);
    if (reply.sequence != sequence_ ||
        (reply.type != MessageType::kReply && reply.type != MessageType::kError)) {
      throw DataError(fmt::format("{}: sent something else than a reply to {}", link.name(), call));
    }
    return reply;
  } catch (const TimedOut&) {
    const std::string waiting_for = link.waiting_for();
    throw CommError(fmt::format(
        "parameter server: {} did not reply to {} of worker {} within {:.3g} s{}", link.name(),
        call, options_.worker, std::chrono::duration<double>(options_.timeout).count(),
        waiting_for.empty() ? "" : "; it waits for " + waiting_for));
  }
}

void Client::join(const ModelSchema& schema) {
  check(schema);
  schema_ = schema;
  has_schema_ = true;
  ShardedRequest request = new_request("join", MessageType::kJoin);
  for (int shard = 0; shard < shards(); ++shard) {
    request.message(shard).schema = to_json(schema);
    request.message(shard).shard = {shard, shards()};
  }
  const std::vector<Message> replies = run(request);
  joined_ = true;
  have_values_ = std::ranges::all_of(replies, &Message::has_all_values);
}

void Client::store(std::span<const TableValues> values) {
  ShardedRequest request = new_request("store", MessageType::kStore);
  for (const TableValues& one : values) request.add_write(one);
  run(request);
}

void Client::require_steps(const char* call, std::size_t steps) const {
  if (steps <= schema_.dense.size()) return;
  throw UsageError(fmt::format("{}: there must be a step for each of {}, got {}", call,
                               counted(std::ssize(schema_.dense), "dense table"), steps));
}

void Client::store_steps(std::span<const std::int64_t> steps) {
  ShardedRequest request = new_request("store_steps", MessageType::kStore);
  require_steps("store_steps", steps.size());
  for (std::uint32_t table = 0; table < steps.size(); ++table) {
    for (int shard = 0; shard < shards(); ++shard) {
      const Range range = range_of(schema_, table, shard, shards());
      request.message(shard).parts.push_back({.table = table,
                                              .kind = PartKind::kValues,
                                              .array = kStepArray,
                                              .first = range.begin,
                                              .payload = std::as_bytes(steps.subspan(table, 1))});
    }
  }
  run(request);
}

void Client::fetch_steps(std::span<std::int64_t> steps) {
  ShardedRequest request = new_request("fetch_steps", MessageType::kFetch);
  require_steps("fetch_steps", steps.size());
  for (std::uint32_t table = 0; table < steps.size(); ++table) {
    for (int shard = 0; shard < shards(); ++shard) {
      const Range range = range_of(schema_, table, shard, shards());
      request.add_read(
          shard,
          {.table = table, .kind = PartKind::kReadRange, .array = kStepArray, .first = range.begin},
          sizeof(std::int64_t));
    }
  }
  run(request);
  for (std::size_t table = 0; table < steps.size(); ++table) {
    // Every server that holds a part of the table has counted all updates; the others have 0.
    steps[table] = 0;
    for (int shard = 0; shard < shards(); ++shard) {
      std::int64_t one = 0;
      std::memcpy(&one, request.outputs(shard)[table].data(), sizeof one);
      steps[table] = std::max(steps[table], one);
    }
  }
}

void Client::push(std::span<const Gradient> gradients, PushOptions options) {
  push_pull(gradients, options, {});
}

void Client::pull(std::span<const TableValues> values) {
  ShardedRequest request = new_request("pull", MessageType::kPull);
  for (const TableValues& one : values) request.add_read(one);
  run(request);
}

void Client::push_pull(std::span<const Gradient> gradients, PushOptions options,
                       std::span<const TableValues> values) {
  ShardedRequest request = new_request(values.empty() ? "push" : "push_pull", MessageType::kPush);
  for (Message& message : request.messages()) {
    message.lr = options.lr;
    message.scale = options.scale;
    message.divisor = options.divisor;
  }
  for (const Gradient& gradient : gradients) request.add_gradient(gradient, clock_);
  for (const TableValues& one : values) request.add_read(one);
  run(request);
}

std::int64_t Client::fetch(std::span<const TableValues> values) {
  ShardedRequest request = new_request("fetch", MessageType::kFetch);
  for (const TableValues& one : values) request.add_read(one);
  return smallest(run(request), &Message::version);
}

const ModelSchema& Client::observe() {
  schema_ = fetch_schema(*links_.front(), options_.timeout);
  has_schema_ = true;
  return schema_;
}

std::vector<Message> Client::take_snapshot_step(SnapshotAction action,
                                                const std::optional<VersionVector>& progress) {
  ShardedRequest request = new_request("fetch", MessageType::kSnapshot);
  for (Message& message : request.messages()) {
    message.snapshot = action;
    message.progress = progress;
  }
  return run(request);
}

void Client::pause() {
  std::vector<VersionVector> progress;
  for (const Message& reply : take_snapshot_step(SnapshotAction::kPause)) {
    if (!reply.progress) throw DataError("fetch: a server has paused without a version vector");
    progress.push_back(*reply.progress);
  }
  take_snapshot_step(SnapshotAction::kAdvance, frontier_of(progress));
}

void Client::resume() {
  take_snapshot_step(SnapshotAction::kResume);
}

std::int64_t Client::fetch_snapshot(std::span<const TableValues> values) {
  pause();
  const std::int64_t version = fetch(values);
  resume();
  return version;
}

std::vector<std::uint64_t> Client::fetch_keys(std::string_view name) {
  const ShardedRequest names = new_request("fetch_keys", MessageType::kFetch);
  const std::uint32_t table = names.table_of(name);
  std::vector<std::uint64_t> keys;
  std::vector<std::int64_t> first(links_.size());
  for (bool more = true; more;) {
    more = false;
    ShardedRequest request = new_request("fetch_keys", MessageType::kFetch);
    for (int shard = 0; shard < shards(); ++shard) {
      request.add_read(shard,
                       {.table = table,
                        .kind = PartKind::kReadKeys,
                        .first = first[static_cast<std::size_t>(shard)],
                        .count = kKeysAtATime},
                       kKeysAtATime * sizeof(std::uint64_t));
    }
    const std::vector<Message> replies = run(request);
    for (int shard = 0; shard < shards(); ++shard) {
      const Part& part = replies[static_cast<std::size_t>(shard)].parts.at(0);
      const auto count = static_cast<std::int64_t>(part.payload.size() / sizeof(std::uint64_t));
      const auto* got =
          reinterpret_cast<const std::uint64_t*>(request.outputs(shard).front().data());
      keys.insert(keys.end(), got, got + count);
      first[static_cast<std::size_t>(shard)] += count;
      more = more || count == kKeysAtATime;
    }
  }
  return keys;
}

void Client::save() {
  // Each server resumes as soon as it has written its file.
  if (shards() > 1) pause();
  ShardedRequest request = new_request("save", MessageType::kSave);
  run(request);
}

void Client::drain() {
  ShardedRequest request = new_request("drain", MessageType::kDrain);
  run(request);
}

void Client::leave() {
  leave_because({});
}

void Client::fail(const std::string& why) {
  leave_because(why.substr(0, kMostReasonBytes));
}

void Client::leave_because(const std::string& reason) {
  if (!joined_) return;
  joined_ = false;
  ShardedRequest request = new_request("leave", MessageType::kLeave);
  for (Message& message : request.messages()) message.reason = reason;
  run(request);
  has_left_ = true;
}

std::byte* Client::allocate(std::size_t bytes) {
  return links_.front()->allocate(bytes);
}

Traffic Client::traffic() const {
  Traffic all;
  for (const auto& link : links_) all += link->traffic();
  return all;
}

ModelSchema fetch_schema(Link& link, std::chrono::milliseconds timeout) {
  link.send({.type = MessageType::kFetch, .worker = kObserver, .incarnation = 1, .sequence = 1},
            {});
  try {
    const Message reply = link.receive(std::chrono::steady_clock::now() + timeout);
    if (reply.type == MessageType::kError) throw_error(link, reply);
    return parse_schema(reply.schema);
  } catch (const TimedOut&) {
    throw CommError(fmt::format("parameter server: {} did not reply within {:.3g} s", link.name(),
                                std::chrono::duration<double>(timeout).count()));
  }
}

}  // namespace trireme::server
