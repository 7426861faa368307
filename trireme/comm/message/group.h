#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <thread>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/comm/message/exchange.h"
#include "trireme/comm/message/hub.h"
#include "trireme/comm/message/messages.h"
#include "trireme/comm/message/ticket.h"

namespace trireme::message {

struct Options {
  /// How long a rank waits for a peer that is alive before its call ends in CommError.
  std::chrono::milliseconds timeout = std::chrono::minutes(30);
  /// Use the engine's own collectives where it has them. They sum in an order of their own: the
  /// bits then depend on the engine and on the number of ranks.
  bool native = false;
};

/// A communicator over a Transport. Every rank announces each collective to all others (a *post*)
/// when it is called; the data moves once all posts are there and agree. Threads of its own carry
/// the operations out, so that data moves while the caller computes: collectives take turns on two
/// lanes, so that one's announcement overlaps the other's data.
///
/// Reductions are reproducible: the owner of a slice receives every rank's rows of it and sums them
/// in the order of the ReductionTree. docs/algorithms.md has steps and bytes.
class Group : public Communicator, private Listener {
 public:
  /// The communicator of all ranks of `transport`.
  static std::unique_ptr<Group> world(std::unique_ptr<Transport> transport, Options options = {});

  ~Group() override;

  std::string description() const override;
  void check() override;
  void abort(std::exception_ptr error) override;

 protected:
  static constexpr int kLanes = 2;  ///< moves of two collectives run at a time

  /// All ranks of `transport`.
  Group(std::unique_ptr<Transport> transport, Options options);
  /// Some of them: `world_ranks`, of which this one is the `rank`-th, on a channel of their own.
  Group(std::shared_ptr<Hub> hub, std::uint32_t channel, int rank, std::vector<int> world_ranks,
        Options options);

  /// Begins to listen; once the object is whole. stop_lanes() is the first act of a destructor.
  void start_lanes();
  void stop_lanes();

  /// Moves the data of a collective that all ranks have called alike, on lane `lane`.
  virtual void move(const Operation& operation, int lane);

  /// Called once, from any thread, when this communicator is over.
  virtual void on_end(const std::exception_ptr& error) { (void)error; }

  Memory do_allocate(std::size_t bytes, Where where) override;
  std::unique_ptr<Communicator> do_split(int color, int key, Where where) override;
  Traffic own_traffic() const override { return transfers_.traffic(); }

  /// What becomes of this rank in a split. Collective; `ranks` are those of this communicator, in
  /// the order of the new one, and empty for a negative color.
  struct Part {
    std::uint32_t channel = 0;
    int rank = 0;
    std::vector<int> ranks;
    std::vector<int> world_ranks;
  };
  Part agree_on_part(int color, int key, Where where);

  /// One word from each rank, in rank order. Collective.
  std::vector<std::uint64_t> gather_words(std::uint64_t word, Where where);

  /// Errors number the operations from here on: what came before was not the user's.
  void end_of_setup();

  /// Moves pieces between `world_ranks`, of which this one is the `rank`-th. Each lane has two
  /// tags of its own, 2 * lane and the next, so that it can do two things at a time; messages have
  /// the last.
  static constexpr int kTags = 2 * kLanes + 1;
  Exchange exchange(int tag, std::span<const int> world_ranks, int rank);
  void throw_if_over() const;
  /// Throws the error that names `rank`, which failed `operation` before or at `deadline`.
  /// `number`: of the operation, 0 for a message.
  [[noreturn]] void throw_for(int rank, const Operation& operation, std::uint64_t number,
                              Deadline deadline);
  Deadline deadline() const { return std::chrono::steady_clock::now() + options_.timeout; }
  const std::shared_ptr<Hub>& hub() const { return hub_; }
  const Options& options() const { return options_; }
  const std::vector<int>& world_ranks() const { return world_ranks_; }

 private:
  Group(std::shared_ptr<Hub> hub, Options options);

  struct Job {
    Operation operation;
    std::uint64_t number = 0;
    std::shared_ptr<Ticket> ticket;
  };
  struct Peer {
    std::map<std::uint64_t, Frame> posts;  // of operations that are not done
    Frame::Header last;                    // what it called last
    bool has_called = false;
    std::uint64_t last_post = 0;  // number of the last collective
    bool left = false;
    bool lost = false;
    std::string why;
  };
  struct Lane {
    std::deque<Job> jobs;
    std::thread thread;
  };
  class TicketWork;

  Work start(const Operation& operation) final;
  std::uint32_t agree_on_channel(Where where);

  Frame post_of(const Operation& operation, std::uint64_t number) const;
  bool travels_inline(const Operation& operation) const;
  void run_lane(int lane);
  bool carry_out(const Job& job, int lane);
  void fail(const Job& job, const std::exception_ptr& error, bool tell);
  std::vector<Frame> match(const Job& job);
  int first_missing(std::uint64_t number) const;
  int first_lost() const;
  int suspect(int culprit, std::uint64_t number) const;

  void on_frame(int from, const Frame& frame) override;
  void on_gone(int world_rank, const std::string& why) override;
  int rank_of(int world_rank) const;
  std::string name(int rank) const;

  void end(std::exception_ptr error, bool tell);
  Frame verdict_of(const std::exception_ptr& error, std::uint64_t first) const;
  std::uint64_t first_unfinished() const;
  void heed_verdict();
  void say(int to, const Frame& frame);
  void say_to_all(const Frame& frame);

  std::shared_ptr<Hub> hub_;
  std::uint32_t channel_;
  std::vector<int> world_ranks_;
  Options options_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Peer> peers_;
  std::uint64_t started_ = 0;
  std::set<std::uint64_t> unfinished_;  // numbers of operations
  std::uint64_t setup_operations_ = 0;
  std::uint64_t matched_ = 0;  // all ranks have called operations up to this one, and alike
  std::vector<Lane> lanes_;
  bool closing_ = false;
  std::exception_ptr error_;  // once this communicator is over
  // What another rank has found: it ends operation verdict_from_ and all that follow, but not those
  // before it, which that rank has done.
  std::exception_ptr verdict_;
  std::uint64_t verdict_from_ = 0;
  Transfers transfers_;
  std::unique_ptr<Messages> messages_;
};

}  // namespace trireme::message
