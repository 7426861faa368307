#include "trireme/server/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <utility>

#include "trireme/base/error.h"
#include "trireme/server/checkpoint_files.h"

namespace trireme::server {

namespace {

using Presence = Membership::Presence;
using Worker = Membership::Worker;

// What an error reply needs of a request that has been moved from.
struct ReturnAddress {
  explicit ReturnAddress(const Request& request)
      : type(request.message.type),
        worker(request.message.worker),
        incarnation(request.message.incarnation),
        sequence(request.message.sequence),
        from(request.from) {}

  Request request() const {
    return {.message = {.type = type,
                        .worker = worker,
                        .incarnation = incarnation,
                        .sequence = sequence},
            .from = from};
  }

  MessageType type;
  std::uint32_t worker;
  std::uint64_t incarnation;
  std::uint64_t sequence;
  std::uint64_t from;
};

void reject(const Request& request, ErrorCode error, std::string reason, ReplySink& sink) {
  sink.send_reply(request, error_reply(request.message, error, std::move(reason)));
}

bool has_encoded_gradients(const Message& push) {
  return std::ranges::any_of(
      push.parts, [](const Part& part) { return part.kind == PartKind::kEncodedGradient; });
}

// The push with its gradients decoded. Throws DataError before anything is applied: an invalid
// payload rejects the whole push.
Request decoded(Request push, const Store& store) {
  struct Memory {
    std::shared_ptr<const void> request;
    std::vector<std::unique_ptr<std::byte[]>> gradients;
  };
  std::shared_ptr<Memory> memory;
  for (Part& part : push.message.parts) {
    if (part.kind != PartKind::kEncodedGradient) continue;
    if (!memory) memory = std::make_shared<Memory>(Memory{push.memory, {}});
    memory->gradients.push_back(store.decoded(part));
    part.kind = PartKind::kGradient;
    part.payload = {memory->gradients.back().get(), store.decoded_bytes(part)};
  }
  if (memory) push.memory = memory;
  return push;
}

}  // namespace

Server::Server(Options options)
    : options_(std::move(options)),
      limits_{.shard = {options_.shard, options_.shards},
              .max_reply_bytes = options_.max_reply_bytes,
              .max_model_bytes = options_.max_model_bytes,
              .max_held_bytes = options_.max_held_bytes} {
  if (!options_.restore.empty()) restore(options_.restore);
}

// The only way in which the state changes. `check` throws what is wrong with the request, and
// allocates: then nothing has changed and the replica never sees the request. What passes is in the
// log before `apply` changes the state, and `apply` depends on state and entry alone, so that a
// server that applies the same entries is a replica. Replies are sent afterwards.
template <class Check, class Apply>
void Server::mutate(const Message& entry, Check check, Apply apply) {
  check();
  if (log_ != nullptr) log_->append(entry);
  apply();
}

void Server::handle(Request request, Time now, ReplySink& sink) {
  state_.members.note_activity(request.message, now);
  if (snapshot_.is_expired(now)) resume(now, sink);
  const ReturnAddress origin(request);
  try {
    dispatch(std::move(request), now, sink);
  } catch (const DataError& error) {
    reject(origin.request(), ErrorCode::kData, error.what(), sink);
  } catch (const CommError& error) {
    reject(origin.request(), ErrorCode::kComm, error.what(), sink);
  } catch (const Error& error) {
    reject(origin.request(), ErrorCode::kUsage, error.what(), sink);
  } catch (const std::bad_alloc&) {
    reject(origin.request(), ErrorCode::kUsage,
           fmt::format("server {} of {}: is out of memory; use more shards", options_.shard,
                       options_.shards),
           sink);
  }
}

void Server::dispatch(Request request, Time now, ReplySink& sink) {
  switch (request.message.type) {
    case MessageType::kJoin:
      return join(request, now, sink);
    case MessageType::kStore:
      return store_values(request, sink);
    case MessageType::kPush:
      return push(std::move(request), sink);
    case MessageType::kPull:
      return pull(std::move(request), sink);
    case MessageType::kFetch:
      return fetch(request, now, sink);
    case MessageType::kDrain:
      return drain(std::move(request), sink);
    case MessageType::kSave:
      return save(request, now, sink);
    case MessageType::kLeave:
      return leave(request, sink);
    case MessageType::kPing:
      return ping(request, sink);
    case MessageType::kSnapshot:
      return snapshot(std::move(request), now, sink);
    case MessageType::kLost:
    case MessageType::kReply:
    case MessageType::kError:
    case MessageType::kReplicate:
    case MessageType::kSuperseded:
      throw UsageError("message: not a request that a server takes from a worker");
  }
}

void Server::apply_log_entry(Request entry, ReplySink& sink) {
  entry.from = kNoReply;
  if (entry.message.type == MessageType::kLost) {
    return lose(entry.message.worker, entry.message.reason, sink);
  }
  handle(std::move(entry), Time{}, sink);
}

// Returns the store to begin with, unless there is one.
std::unique_ptr<Store> Server::check_join(const Message& message) const {
  const ModelSchema schema = parse_schema(message.schema);
  if (message.shard != limits_.shard) {
    throw UsageError(fmt::format(
        "worker {}: takes this server for number {} of {}, and it is number {} of {}; name all "
        "servers, in order",
        message.worker, message.shard.index, message.shard.count, options_.shard, options_.shards));
  }
  std::unique_ptr<Store> store;
  if (!state_.store) {
    limits_.check_schema(schema);
    store = std::make_unique<Store>(schema, options_.shard, options_.shards);
  } else if (const std::string differs = difference(schema, state_.store->schema());
             !differs.empty()) {
    throw UsageError(fmt::format("worker {}: this is another model: {}", message.worker, differs));
  }
  const int workers = schema.consistency.workers;
  if (message.worker >= static_cast<std::uint32_t>(workers)) {
    throw UsageError(fmt::format("worker {}: the model schema has {} workers, 0 to {}",
                                 message.worker, workers, workers - 1));
  }
  if (!state_.failure.empty()) throw CommError(state_.failure);
  return store;
}

void Server::set_store(std::unique_ptr<Store> store) {
  state_.store = std::move(store);
  state_.members.resize(static_cast<std::size_t>(state_.store->schema().consistency.workers));
  policy_ = make_policy(state_);
}

void Server::join(const Request& request, Time now, ReplySink& sink) {
  const Message& message = request.message;
  std::unique_ptr<Store> created;
  mutate(
      message, [&] { created = check_join(message); },
      [&] {
        if (created) set_store(std::move(created));
        Worker& worker = state_.members[message.worker];
        if (worker.incarnation != message.incarnation) {
          worker = {.incarnation = message.incarnation,
                    .clock = policy_->first_clock(message.worker)};
          state_.pending_pushes.erase(message.worker);
        }
        worker.presence = Presence::kHere;
        worker.heard = now;
      });
  Message reply = reply_to(message, version());
  reply.clock = state_.members[message.worker].clock;
  reply.has_all_values = state_.store->is_complete();
  sink.send_reply(request, reply);
  reads_.reply_ready(*policy_, sink);
}

void Server::store_values(const Request& request, ReplySink& sink) {
  const Message& message = request.message;
  Worker& worker = state_.members.sender_of(message);
  // A retransmission changes nothing: pushes that were applied since then stay.
  if (message.sequence > worker.sequence) {
    Store& store = *state_.store;
    mutate(
        message,
        [&] {
          for (const Part& part : message.parts) store.check_write(part);
          limits_.check_rows(state_, message);
          for (const Part& part : message.parts) store.check_finite(part);
          for (const Part& part : message.parts) store.reserve(part);
        },
        [&] {
          for (const Part& part : message.parts) store.write(part);
          worker.sequence = message.sequence;
        });
  }
  sink.send_reply(request, reply_to(message, version()));
  reads_.reply_ready(*policy_, sink);
}

void Server::check_push(const Message& push) const {
  if (!state_.store->is_complete()) {
    throw UsageError(fmt::format(
        "worker {}: pushes before a worker has stored the initial parameters", push.worker));
  }
  if (!state_.failure.empty()) throw CommError(state_.failure);
  policy_->check_push(push);
  limits_.check_reads(*state_.store, push);
  limits_.check_rows(state_, push);
  limits_.check_gradients(state_, push);
}

void Server::push(Request request, ReplySink& sink) {
  const Message& message = request.message;
  const std::uint64_t sequence = message.sequence;
  Worker& worker = state_.members.sender_of(message);
  if (sequence <= worker.sequence) return push_again(std::move(request), sink);
  if (policy_->is_beyond_frontier(message)) return snapshot_.hold(std::move(request));
  std::optional<Request> copy;  // with decoded gradients: in the log they stay encoded
  ConsistencyPolicy::Applied applied;
  mutate(
      message,
      [&] {
        check_push(message);
        if (has_encoded_gradients(message)) copy = decoded(request, *state_.store);
        const Message& gradients = copy ? copy->message : message;
        for (const Part& part : gradients.parts) state_.store->check_finite(part);
        policy_->reserve(gradients);
      },
      [&] {
        worker.sequence = sequence;
        applied = policy_->apply(std::move(copy ? *copy : request));
      });
  finish(applied.complete, sink);
  if (applied.waiting) pull(std::move(*applied.waiting), sink);
  if (const auto waiter = snapshot_.take_waiter(*policy_)) reply_progress(*waiter, sink);
}

// A push that is in the log already.
void Server::push_again(Request request, ReplySink& sink) {
  const auto pending = state_.pending_pushes.find(request.message.worker);
  if (pending != state_.pending_pushes.end() &&
      pending->second.message.sequence == request.message.sequence) {
    // The reply goes to where the request came from last; the first copy has been checked and
    // counts.
    pending->second.from = request.from;
    return;
  }
  pull(std::move(request), sink);
}

void Server::pull(Request request, ReplySink& sink) {
  state_.members.sender_of(request.message);
  limits_.check_reads(*state_.store, request.message);
  reads_.add(std::move(request));
  reads_.reply_ready(*policy_, sink);
}

void Server::fetch(const Request& request, Time now, ReplySink& sink) {
  const Message& message = request.message;
  if (snapshot_.is_owned_by(message)) snapshot_.extend(now);
  if (!state_.store) throw UsageError("fetch: no worker has joined with a model schema yet");
  limits_.check_reads(*state_.store, message);
  if (message.parts.empty()) {
    Message reply = reply_to(message, version());
    reply.schema = to_json(state_.store->schema());
    return sink.send_reply(request, reply);
  }
  if (!state_.store->is_complete()) {
    throw UsageError("fetch: no worker has stored the initial parameters yet");
  }
  reads_.reply(request, sink);
}

void Server::drain(Request request, ReplySink& sink) {
  const Message& message = request.message;
  Worker& worker = state_.members.sender_of(message);
  std::vector<Request> complete;
  mutate(
      message, [&] { limits_.check_reads(*state_.store, message); },
      [&] {
        worker.is_done = true;
        complete = policy_->advance();
      });
  finish(complete, sink);
  reads_.add(std::move(request));
  reads_.reply_ready(*policy_, sink);
}

void Server::save(const Request& request, Time now, ReplySink& sink) {
  if (options_.checkpoints.empty()) {
    throw UsageError("save: this server was not given a folder for checkpoints");
  }
  if (!state_.store || !state_.store->is_complete()) {
    throw UsageError("save: there are no parameters yet");
  }
  Message reply = reply_to(request.message, version());
  reply.file = checkpoint_file(options_.checkpoints, options_.shard, options_.shards).string();
  state_.store->save(reply.file, version());
  sink.send_reply(request, reply);
  // The snapshot was taken for this file.
  if (snapshot_.is_owned_by(request.message)) resume(now, sink);
}

void Server::leave(const Request& request, ReplySink& sink) {
  const Message& message = request.message;
  Worker& worker = state_.members.sender_of(message);
  std::string failure;
  std::vector<Request> complete;
  mutate(
      message,
      [&] {
        if (message.reason.empty()) return;
        failure = fmt::format("worker {} has failed: {}", message.worker, message.reason);
      },
      [&] {
        worker.presence = Presence::kLeft;
        state_.has_failed_worker = state_.has_failed_worker || !failure.empty();
        if (state_.failure.empty()) state_.failure = std::move(failure);
        complete = remove(message.worker);
      });
  finish(complete, sink);
  sink.send_reply(request, reply_to(message, version()));
}

void Server::lose(std::uint32_t worker, std::string_view why, ReplySink& sink) {
  if (worker >= state_.members.size() || state_.members[worker].is_gone()) return;
  std::vector<Request> complete;
  mutate(
      {.type = MessageType::kLost, .worker = worker, .reason = std::string(why)}, [] {},
      [&] {
        state_.members[worker].presence = Presence::kLost;
        state_.members[worker].why_lost = why;
        reads_.remove(worker);
        snapshot_.remove(worker);
        complete = remove(worker);
      });
  finish(complete, sink);
}

// Returns the pushes that are over because `worker` is gone: either they are complete or they never
// can be.
std::vector<Request> Server::remove(std::uint32_t worker) {
  if (state_.failure.empty()) state_.failure = policy_->failure_after(worker);
  if (state_.failure.empty()) return policy_->advance();
  std::vector<Request> pushes;
  for (auto& [pushed_by, push] : std::exchange(state_.pending_pushes, {})) {
    pushes.push_back(std::move(push));
  }
  return pushes;
}

// Replies to pushes that are over, and to all reads that need not wait any longer.
void Server::finish(const std::vector<Request>& pushes, ReplySink& sink) {
  for (const Request& push : pushes) {
    if (state_.failure.empty()) {
      reads_.reply(push, sink);
    } else {
      reject(push, ErrorCode::kComm, state_.failure, sink);
    }
  }
  reads_.reply_ready(*policy_, sink);
}

void Server::ping(const Request& request, ReplySink& sink) const {
  Message reply = reply_to(request.message, version());
  if (!state_.store) {
    reply.waiting_for = "a worker that joins with a model schema";
  } else if (!state_.store->is_complete()) {
    reply.waiting_for = "a worker that stores the initial parameters";
  } else {
    reply.waiting_for = policy_->waiting_for();
  }
  sink.send_reply(request, reply);
}

void Server::snapshot(Request request, Time now, ReplySink& sink) {
  if (!state_.store) throw UsageError("fetch: no worker has joined with a model schema yet");
  snapshot_.check_owner(request.message);
  switch (request.message.snapshot) {
    case SnapshotAction::kPause:
      return pause(request, now, sink);
    case SnapshotAction::kAdvance:
      return advance(std::move(request), now, sink);
    case SnapshotAction::kResume:
      snapshot_.check_active();
      resume(now, sink);
      return reply_progress(request, sink);
    case SnapshotAction::kNone:
      throw UsageError("message: a request for a snapshot must say what to do");
  }
}

void Server::pause(const Request& request, Time now, ReplySink& sink) {
  mutate(
      request.message,
      [&] {
        // A replica follows its primary, whose clock it does not have.
        if (request.from != kNoReply) snapshot_.check_ration(now);
      },
      [&] { snapshot_.pause(request.message.incarnation, policy_->progress(), now); });
  reply_progress(request, sink);
}

void Server::advance(Request request, Time now, ReplySink& sink) {
  const Message entry = request.message;
  std::vector<Request> complete;
  mutate(
      entry,
      [&] {
        snapshot_.check_active();
        snapshot_.check_frontier(entry, policy_->progress());
      },
      [&] {
        snapshot_.advance(std::move(request));
        complete = policy_->advance();
      });
  finish(complete, sink);
  for (Request& push : snapshot_.take_pushes()) handle(std::move(push), now, sink);
  if (const auto waiter = snapshot_.take_waiter(*policy_)) reply_progress(*waiter, sink);
}

void Server::resume(Time now, ReplySink& sink) {
  Snapshot::Rest rest;
  std::vector<Request> complete;
  mutate(
      {.type = MessageType::kSnapshot,
       .worker = kObserver,
       .incarnation = snapshot_.incarnation(),
       .snapshot = SnapshotAction::kResume},
      [] {},
      [&] {
        rest = snapshot_.resume(now);
        complete = policy_->advance();
      });
  if (rest.waiter) {
    reject(
        *rest.waiter, ErrorCode::kComm,
        "fetch: a push that other servers have applied has not arrived here; is its worker lost?",
        sink);
  }
  finish(complete, sink);
  for (Request& push : rest.pushes) handle(std::move(push), now, sink);
}

void Server::reply_progress(const Request& request, ReplySink& sink) const {
  Message reply = reply_to(request.message, version());
  reply.progress = policy_->progress();
  sink.send_reply(request, reply);
}

void Server::time_passed(Time now, ReplySink& sink) {
  if (snapshot_.is_expired(now)) resume(now, sink);
  if (options_.dead_after.count() == 0) return;
  for (std::uint32_t i = 0; i < state_.members.size(); ++i) {
    const Worker& worker = state_.members[i];
    const Time silence = now - worker.heard;
    if (worker.presence != Presence::kHere || silence < options_.dead_after) continue;
    lose(i, fmt::format("silent for {:.1f} s", std::chrono::duration<double>(silence).count()),
         sink);
  }
}

void Server::restore(const std::vector<std::string>& files) {
  for (const std::string& path : files) {
    const SafetensorsFile file(path);
    if (!state_.store) {
      set_store(
          std::make_unique<Store>(Store::schema_in(file, path), options_.shard, options_.shards));
    }
    state_.version = std::max(state_.version, state_.store->restore(path));
  }
  if (!state_.store || !state_.store->is_complete()) {
    throw DataError(
        fmt::format("server {} of {}: the {} files to restore from do not hold all of the model; "
                    "name the files "
                    "of all shards",
                    options_.shard, options_.shards, files.size()));
  }
  for (std::uint32_t i = 0; i < state_.members.size(); ++i) {
    state_.members[i].clock = policy_->first_clock(i);
  }
}

}  // namespace trireme::server
