#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trireme/server/cut.h"
#include "trireme/server/message.h"
#include "trireme/server/store.h"
#include "trireme/server/workers.h"

namespace trireme::server {

/// A request and where its answer goes.
struct Request {
  Message message;
  std::uint64_t from = 0;  ///< the transport's own
  std::shared_ptr<const void>
      memory;  ///< what the payloads lie in, if they do not stay by themselves
};

/// From nobody who waits for an answer: an entry of a journal.
inline constexpr std::uint64_t kNobody = ~std::uint64_t{0};

/// Who hears of all that changes a server, in order, before it is answered. A server that handles
/// the same entries becomes its copy.
class Journal {
 public:
  virtual ~Journal() = default;
  virtual void append(const Message& entry) = 0;
};

/// How a transport takes answers.
class Answers {
 public:
  virtual ~Answers() = default;
  /// Where the answer to part `part` of `request` goes; 8-byte aligned. Filled before answer().
  virtual std::span<std::byte> place(const Request& request, std::size_t part,
                                     std::size_t bytes) = 0;
  /// The one answer. The payloads of its parts are what place() gave, in the same order.
  virtual void answer(const Request& request, const Message& answer) = 0;
};

/// One of the servers that hold a model between them: a state machine without sockets, threads or
/// clock. Requests go in; each is answered once, at once or when the workers' clocks allow it.
///
/// Each push is applied exactly once: of a worker's life the sequence numbers rise, and one that
/// has been seen is answered and not applied again.
class Server {
 public:
  using Time = Workers::Time;  ///< of any clock that only goes forward

  struct Options {
    int shard = 0;
    int shards = 1;
    /// A worker that is silent for longer counts as lost; 0: the transport knows by itself.
    Time dead_after{};
    /// Where kSave may write; empty: nowhere.
    std::string checkpoints;
    /// No request is answered with more values than that; 0: any.
    std::size_t max_answer_bytes = 0;
    /// Values and optimizer state of all tables, together; 0: any.
    std::size_t max_model_bytes = 0;
  };

  explicit Server(Options options);

  void handle(Request request, Time now, Answers& answers);

  /// From now on; it outlives the server.
  void keep_journal(Journal* journal) { journal_ = journal; }
  /// Does what the server whose journal holds `entry` has done, and answers kNobody. Its clock is
  /// that server's: until it takes over, time_passed() is not called here.
  void follow(Request entry, Answers& answers);

  /// The worker is gone, "killed by signal 9": what waits for it goes on without it or is refused.
  void lose(std::uint32_t worker, std::string_view why, Answers& answers);

  /// Looks for workers that are silent.
  void time_passed(Time now, Answers& answers);

  /// True once every worker has joined, and has left or is lost.
  bool is_over() const { return workers_.are_gone(); }

  /// How many updates it has made.
  std::int64_t version() const { return version_; }

  /// Null until a worker has declared a model, or a checkpoint has been restored.
  const Store* store() const { return store_.get(); }

  /// Takes over what a checkpoint's files hold of this server's, before any worker joins. Throws
  /// DataError.
  void restore(const std::vector<std::string>& files);

 private:
  using Worker = Workers::Worker;
  using Presence = Workers::Presence;

  const Consistency& consistency() const { return store_->declaration().consistency; }
  bool is_synchronous() const {
    return store_ && consistency().mode == Consistency::Mode::kSynchronous;
  }

  std::int64_t clock_of_new(std::uint32_t worker) const;
  void join(const Request& request, Answers& answers);
  void store_values(const Request& request, Answers& answers);
  void push(Request request, Answers& answers);
  void decode_gradients(Request& request) const;
  void push_together(Request request, Answers& answers);
  void pull(Request request, Answers& answers);
  void fetch(const Request& request, Answers& answers);
  void settle(Request request, Answers& answers);
  void wait(Request request, Answers& answers);
  void save(const Request& request, Answers& answers);
  void leave(const Request& request, Answers& answers);
  void hold(Request request, Time now, Answers& answers);
  void go_on(Time now, Answers& answers);

  // A program fetches a cut: pushes beyond its place wait, but not for ever.
  struct Hold {
    std::uint64_t life = 0;
    Time until{};
    Place place;
    std::optional<Request> asker;  // waits until the place is reached
    std::vector<Request> pushes;   // wait until it has been left
  };
  Place place() const;
  bool is_held(const Message& push) const;
  void answer_holder(Answers& answers);

  void check_wanted(const Message& message) const;
  void check_memory(const Declaration& declaration) const;
  void check_memory() const;
  void append(const Message& entry) const;
  bool may_read(std::int64_t clock) const;
  bool may_answer(const Message& message) const;
  int needed() const;
  void apply_complete_steps(Answers& answers);
  void answer_together(Answers& answers);
  void answer_ready(Answers& answers);
  void refuse_all(const std::string& why, Answers& answers);
  void answer_with_values(const Request& request, Answers& answers);
  void refuse(const Request& request, std::uint8_t fault, const std::string& why,
              Answers& answers) const;
  std::string what_is_awaited() const;

  Options options_;
  std::unique_ptr<Store> store_;
  Workers workers_;
  std::int64_t version_ = 0;
  std::map<std::uint32_t, Request> together_;  // pushes of step version_, by worker
  std::vector<Request> waiting_;               // reads that come too early
  std::optional<Hold> hold_;
  std::string over_;  // why nothing can go on
  Journal* journal_ = nullptr;
};

}  // namespace trireme::server
