#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/kernels/compress.h"
#include "trireme/server/declaration.h"
#include "trireme/server/link.h"

namespace trireme::server {

/// A dense gradient, or the gradients of some rows of a sparse table.
struct Gradient {
  std::string_view table;
  /// Dense: [rows, count of the table], one row but for synchronous training over virtual workers,
  /// where a worker pushes each node of the tree that it holds. Sparse: [keys, width], f32.
  Buffer values;
  std::span<const std::uint64_t> keys;
  /// Zeros that stand for no gradient at all.
  bool empty = false;
  /// Dense, one row: what makes it smaller on the way to each server, over that server's range
  /// (range_of()); none: it travels as it is.
  std::span<Compressor> compressors;
};

/// Values that are asked for: those of a whole dense table, or of the rows of `keys`. slot 0: the
/// parameters; slot i: array i - 1 of the optimizer's state.
struct Wanted {
  std::string_view table;
  Buffer out;  ///< [count], or [keys, width]
  std::span<const std::uint64_t> keys;
  std::uint8_t slot = 0;
};

struct PushOptions {
  double lr = 0;
  double scale = 1;  ///< the gradients are multiplied by it
};

/// A worker of a parameter server: it pushes gradients to the servers that hold the model between
/// them, and pulls parameters.
///
///     client.join(declaration);
///     if (client.worker() == 0) client.store(parameters);
///     for (...) {
///       client.pull(wanted);
///       ... gradients ...
///       client.push(gradients, {.lr = 0.1});      // or push_pull(), in one trip
///     }
///
/// A push, with all its gradients, is one step of this worker: it is applied exactly once or not at
/// all on each server, sent again where an answer got lost. One thread at a time. All calls throw
/// CommError when a server is lost or does not answer in time, naming it and what it waits for;
/// UsageError when names or shapes are not those of the declaration.
class Client {
 public:
  struct Options {
    int worker = 0;
    std::chrono::milliseconds timeout = std::chrono::minutes(30);
  };

  Client(std::vector<std::unique_ptr<Link>> links, Options options);
  /// Leaves, if it has joined and not left.
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  int worker() const { return options_.worker; }
  int shards() const { return static_cast<int>(links_.size()); }

  /// The steps whose gradients this worker has pushed; in synchronous training the updates made.
  std::int64_t clock() const { return clock_; }

  /// Takes what the servers hold as its model, without being one of the workers: for programs that
  /// only fetch. Returns it.
  const Declaration& observe();

  /// Declares the model, or finds that the servers hold the same one. A worker that comes late, or
  /// again, begins where the slowest of the others is.
  void join(const Declaration& declaration);

  /// After join(): true if the servers have all parameters, from a checkpoint or another worker.
  bool servers_have_values() const { return have_values_; }

  /// Sets values and optimizer state to begin with; every worker's first pull waits until all
  /// dense values are there.
  void store(std::span<const Wanted> values);
  /// How often each dense table has been updated: [dense tables].
  void store_steps(std::span<const std::int64_t> steps);
  void fetch_steps(std::span<std::int64_t> steps);

  void push(std::span<const Gradient> gradients, PushOptions options);
  void pull(std::span<const Wanted> wanted);
  void push_pull(std::span<const Gradient> gradients, PushOptions options,
                 std::span<const Wanted> wanted);

  /// As they are now, whatever the clocks. Returns the number of updates that they have seen: that
  /// of the server which is furthest behind.
  std::int64_t fetch(std::span<const Wanted> wanted);

  /// The same of one moment: of each push all servers have applied their part or none has. Workers
  /// that push meanwhile are held up for a few round trips. Throws CommError where a worker was
  /// lost between its pushes to two servers.
  std::int64_t fetch_cut(std::span<const Wanted> wanted);
  /// What fetch() and fetch_keys() see between the two is of one moment, if they come in time:
  /// pushes wait at most five seconds after the last of them.
  void hold();
  void go_on();

  /// The keys of all rows that have been updated.
  std::vector<std::uint64_t> fetch_keys(std::string_view table);

  /// Every server writes its checkpoint, all of one moment.
  void save();

  /// Returns once every other worker has left or is lost: what is fetched then is the end.
  void settle();

  /// This worker has done its last step: nobody waits for it any more.
  void leave();

  /// Memory from which gradients are pushed and into which values are pulled without a copy, or
  /// null if there is none (left) of that kind: use your own then. Lives as long as the client.
  std::byte* allocate(std::size_t bytes);

  Traffic traffic() const;

 private:
  struct Exchange;

  std::vector<Message> hold_at(const std::string& place);
  std::uint32_t table_of(std::string_view name, const char* call) const;
  void add_gradients(std::span<const Gradient> gradients, Exchange& exchange) const;
  void add_wanted(std::span<const Wanted> wanted, bool brings, Exchange& exchange) const;
  void run(const char* call, Exchange& exchange);
  Message answer_of(const char* call, std::size_t shard, Link::Deadline deadline);

  std::vector<std::unique_ptr<Link>> links_;
  Options options_;
  Declaration declaration_;
  std::uint64_t life_;
  std::uint64_t sequence_ = 0;
  std::int64_t clock_ = 0;
  bool joined_ = false;
  bool has_left_ = false;
  bool have_values_ = false;
};

/// Which model the servers behind `link` hold: for programs that have none of their own.
Declaration fetch_declaration(Link& link, std::chrono::milliseconds timeout);

}  // namespace trireme::server
