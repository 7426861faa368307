#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "trireme/server/link.h"
#include "trireme/server/model_schema.h"
#include "trireme/server/sharded_request.h"

namespace trireme::server {

struct PushOptions {
  double lr = 0;
  double scale = 1;  ///< the gradients are multiplied by it
  /// Synchronous training: the sum over all workers is divided by it once, before the scale: the
  /// weight of the whole step. Every worker of a step must push with the same one. 0: the number of
  /// virtual workers. Other modes take 0 only: a worker pushes its mean gradient.
  double divisor = 0;
};

/// A worker of a parameter server: it pushes gradients to the servers that hold the model, and
/// pulls parameters.
///
///     client.join(schema);
///     if (client.worker() == 0) client.store(parameters);
///     for (...) {
///       client.pull(parameters);
///       ... gradients ...
///       client.push(gradients, {.lr = 0.1});      // or push_pull(), in one round trip
///     }
///
/// A push, with all its gradients, is one step of this worker. Each server applies it exactly once
/// or not at all; a request is sent again if its reply is lost. One thread at a time. Every call
/// throws CommError if a server is lost or does not reply in time, naming the server and what it
/// waits for, and UsageError if names or shapes are not those of the schema.
class Client {
 public:
  struct Options {
    int worker = 0;
    std::chrono::milliseconds timeout = std::chrono::minutes(30);
  };

  Client(std::vector<std::unique_ptr<Link>> links, Options options);
  /// Calls leave().
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  int worker() const { return options_.worker; }
  int shards() const { return static_cast<int>(links_.size()); }

  /// The steps whose gradients this worker has pushed; in synchronous training the updates made.
  std::int64_t clock() const { return clock_; }

  /// Takes the schema of the model that the servers hold, for programs that only fetch and are not
  /// one of the workers. Returns it.
  const ModelSchema& observe();

  /// Joins as a worker. The first worker brings the schema to the servers; later ones must have the
  /// same. A worker that joins late, or again, begins at the slowest clock of the others.
  void join(const ModelSchema& schema);

  /// After join(): true if the servers have all values, from a checkpoint or from another worker.
  bool servers_have_values() const { return have_values_; }

  /// Writes initial values and optimizer state. Every worker's first pull waits until the values of
  /// all dense tables have been stored.
  void store(std::span<const TableValues> values);
  /// Writes, or reads, the number of updates of each dense table: [dense tables].
  void store_steps(std::span<const std::int64_t> steps);
  void fetch_steps(std::span<std::int64_t> steps);

  void push(std::span<const Gradient> gradients, PushOptions options);
  void pull(std::span<const TableValues> values);
  void push_pull(std::span<const Gradient> gradients, PushOptions options,
                 std::span<const TableValues> values);

  /// Reads values as they are, whatever the clocks. Returns the number of updates that they
  /// contain, of the server that has made the fewest.
  std::int64_t fetch(std::span<const TableValues> values);

  /// Fetches a consistent snapshot: for every push, either all servers have applied it or none has.
  /// It delays the workers' pushes for a few round trips. Throws CommError if a worker was lost
  /// between its pushes to two servers.
  std::int64_t fetch_snapshot(std::span<const TableValues> values);
  /// What fetch() and fetch_keys() read between pause() and resume() is one snapshot. The servers
  /// resume by themselves five seconds after the last of these calls.
  void pause();
  void resume();

  /// The keys of all rows that have been updated.
  std::vector<std::uint64_t> fetch_keys(std::string_view table);

  /// Makes every server write its checkpoint, all of one snapshot.
  void save();

  /// Tells the servers that this worker pushes no more. Returns once no other worker can push: what
  /// is fetched then is the final model.
  void drain();

  /// Tells the servers that this worker has finished: no worker waits for it any more.
  void leave();

  /// Tells the servers that this worker ends because of an error, `why`, and with it the run: every
  /// later call of the other workers, and those that wait, end in CommError with `why`. A worker
  /// that only disappears is lost, and the others may go on without it.
  void fail(const std::string& why);

  /// Memory from which gradients are pushed and into which values are pulled without a copy; null
  /// if the transport has none or it is used up. It lives as long as the client.
  std::byte* allocate(std::size_t bytes);

  Traffic traffic() const;

 private:
  void require_steps(const char* call, std::size_t steps) const;
  ShardedRequest new_request(const char* call, MessageType type) const;
  std::vector<Message> take_snapshot_step(SnapshotAction action,
                                          const std::optional<VersionVector>& progress = {});
  std::vector<Message> run(ShardedRequest& request);
  void leave_because(const std::string& reason);
  void send(ShardedRequest& request);
  Message receive(const char* call, std::size_t shard, Link::Deadline deadline);

  std::vector<std::unique_ptr<Link>> links_;
  Options options_;
  ModelSchema schema_;
  std::uint64_t incarnation_;
  std::uint64_t sequence_ = 0;
  std::int64_t clock_ = 0;
  bool joined_ = false;
  bool has_schema_ = false;
  bool has_left_ = false;
  bool have_values_ = false;
};

/// The schema of the model that the server behind `link` holds.
ModelSchema fetch_schema(Link& link, std::chrono::milliseconds timeout);

}  // namespace trireme::server
