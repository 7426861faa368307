#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/server/consistency/policy.h"
#include "trireme/server/limits.h"
#include "trireme/server/read_queue.h"
#include "trireme/server/replication_log.h"
#include "trireme/server/request.h"
#include "trireme/server/server_state.h"
#include "trireme/server/snapshot.h"

namespace trireme::server {

/// One of the servers that hold a model: a state machine without sockets, threads or clock. It
/// checks and dispatches requests, and replies to each once: at once, or when the consistency
/// policy allows it. One thread.
///
/// Each push is applied exactly once: the sequence numbers of a worker's incarnation increase, and
/// a request whose number has been seen is replied to and not applied again.
class Server {
 public:
  using Time = Membership::Time;  ///< of any clock that does not go backward

  struct Options {
    int shard = 0;
    int shards = 1;
    /// A worker that is silent for longer counts as lost; 0: the transport reports lost workers.
    Time dead_after{};
    /// The folder that kSave writes to; empty: kSave is rejected.
    std::string checkpoints;
    /// The files of a checkpoint to begin with; none: begin without a model.
    std::vector<std::string> restore;
    /// The most values in one reply; 0: no limit.
    std::size_t max_reply_bytes = 0;
    /// The most values, optimizer state and index of all tables together; 0: no limit.
    std::size_t max_model_bytes = 0;
    /// The most gradients of pushes that wait, decoded; 0: no limit.
    std::size_t max_held_bytes = 0;
  };

  /// Throws what restore() throws.
  explicit Server(Options options);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void handle(Request request, Time now, ReplySink& sink);

  /// Appends every later change to `log`, which outlives the server.
  void set_replication_log(ReplicationLog* log) { log_ = log; }

  /// Makes the change of a log entry of the server whose replica this one is; replies have `from`
  /// == kNoReply. Until the replica takes over, the primary's clock decides: time_passed() must not
  /// be called.
  void apply_log_entry(Request entry, ReplySink& sink);

  /// The worker is lost, with a reason like "killed by signal 9": no request waits for it any more.
  void lose(std::uint32_t worker, std::string_view why, ReplySink& sink);

  /// Finds workers that have been silent for too long.
  void time_passed(Time now, ReplySink& sink);

  /// True once every worker has joined and has left or is lost.
  bool is_over() const { return state_.members.all_gone(); }

  /// The updates it has made.
  std::int64_t version() const { return state_.version; }

  /// Null until a worker has joined or a checkpoint has been restored.
  const Store* store() const { return state_.store.get(); }

  /// Reads this server's part of the model from the files of a checkpoint. Must be called before
  /// any worker joins. Throws DataError.
  void restore(const std::vector<std::string>& files);

 private:
  template <class Check, class Apply>
  void mutate(const Message& entry, Check check, Apply apply);

  void dispatch(Request request, Time now, ReplySink& sink);
  void join(const Request& request, Time now, ReplySink& sink);
  void store_values(const Request& request, ReplySink& sink);
  void push(Request request, ReplySink& sink);
  void push_again(Request request, ReplySink& sink);
  void pull(Request request, ReplySink& sink);
  void fetch(const Request& request, Time now, ReplySink& sink);
  void drain(Request request, ReplySink& sink);
  void save(const Request& request, Time now, ReplySink& sink);
  void leave(const Request& request, ReplySink& sink);
  void ping(const Request& request, ReplySink& sink) const;

  void snapshot(Request request, Time now, ReplySink& sink);
  void pause(const Request& request, Time now, ReplySink& sink);
  void advance(Request request, Time now, ReplySink& sink);
  void resume(Time now, ReplySink& sink);
  void reply_progress(const Request& request, ReplySink& sink) const;

  std::unique_ptr<Store> check_join(const Message& message) const;
  void check_push(const Message& push) const;
  void set_store(std::unique_ptr<Store> store);
  std::vector<Request> remove(std::uint32_t worker);
  void finish(const std::vector<Request>& pushes, ReplySink& sink);

  Options options_;
  Limits limits_;
  ServerState state_;
  std::unique_ptr<ConsistencyPolicy> policy_;  // as long as there is a store
  Snapshot snapshot_{state_};
  ReadQueue reads_{state_};
  ReplicationLog* log_ = nullptr;
};

}  // namespace trireme::server
