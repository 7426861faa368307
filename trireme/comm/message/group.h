#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "trireme/base/clock.h"
#include "trireme/comm/communicator.h"
#include "trireme/comm/message/call_matcher.h"
#include "trireme/comm/message/channel.h"
#include "trireme/comm/message/completion.h"
#include "trireme/comm/message/data_mover.h"
#include "trireme/comm/message/failure_agreement.h"
#include "trireme/comm/message/messages.h"
#include "trireme/comm/message/worker_threads.h"

namespace trireme::message {

struct Options {
  /// How long a rank waits for a peer that is alive before its call ends in CommError.
  std::chrono::milliseconds timeout = std::chrono::minutes(30);
  /// A rank of which nothing is heard for so long is lost: every process sends a heartbeat each
  /// second from a thread of its own, whatever it computes. 0: never. It counts for all
  /// communicators of a transport.
  std::chrono::milliseconds heartbeat_timeout = std::chrono::seconds(30);
  /// Use the transport's own collectives if it has them. They sum in an order of their own, so the
  /// bits depend on the transport and on the number of ranks.
  bool native = false;
  /// The clock of all deadlines except those of transfers. Must outlive the communicator.
  const Clock* clock = &Clock::system();
};

/// A communicator over a Transport. Every rank announces each collective to all others when it is
/// called; the data moves once all announcements have arrived and agree. Worker threads execute the
/// operations, so that data moves while the caller computes. Collectives alternate between two
/// workers, so that the announcements of one overlap with the data of the other.
/// Reductions are reproducible: the owner of a slice receives every rank's rows of it and sums them
/// in the order of the ReductionTree. docs/algorithms.md has steps and bytes.
class Group final : public Communicator, private FrameListener {
 public:
  /// The communicator of all ranks of `transport`.
  static std::unique_ptr<Group> world(std::unique_ptr<Transport> transport, Options options = {});

  ~Group() override;

  std::string description() const override;
  void check() override;
  void abort(std::exception_ptr error) override;

  // Functions for communicators that are built on a group.

  /// Starts an operation whose arguments have been checked.
  Work start(const Operation& operation) override;

  /// Returns one word from each rank, in rank order. Collective.
  std::vector<std::uint64_t> gather_words(std::uint64_t word, SourceLocation where);

  /// From this call on, `mover` moves the data. It must outlive the group. All ranks must call it,
  /// or none.
  void move_with(DataMover& mover);

  /// Errors count the collectives after this call from 1: those before it are internal.
  void end_of_setup();

  /// The result of a split for this rank. `ranks` are ranks of this communicator in the order of
  /// the new one, and empty for a negative color.
  struct Part {
    std::uint32_t channel = 0;
    int rank = 0;
    std::vector<int> ranks;
  };
  /// Collective.
  Part agree_on_part(int color, int key, SourceLocation where);
  /// Makes the group of a part that is not empty.
  std::unique_ptr<Group> make_group(const Part& part);

  Channel& channel() { return channel_; }
  const Options& options() const { return options_; }
  Traffic own_traffic() const override { return channel_.transfers().traffic(); }

 private:
  struct Job {
    Operation operation;
    std::uint64_t number = 0;
    std::shared_ptr<Completion> completion;
  };
  class CollectiveWork;
  class MessageWork;

  Group(std::shared_ptr<FrameDispatcher> dispatcher, std::uint32_t channel, int rank,
        std::vector<int> world_ranks, Options options);

  Memory do_allocate(std::size_t bytes, SourceLocation where) override;
  std::unique_ptr<Communicator> do_split(int color, int key, SourceLocation where) override;
  std::uint32_t agree_on_channel(SourceLocation where);

  Work start_message(const Operation& operation);
  Frame announcement_of(const Operation& operation, std::uint64_t number) const;
  bool travels_inline(const Operation& operation) const;

  // These functions run on a worker thread.
  void execute(const Job& job, int worker);
  bool try_to_execute(const Job& job, int worker);
  std::vector<Frame> wait_for_announcements(const Job& job);
  void move(const Operation& operation, int worker);
  void transfer_failed(const Operation& operation, std::uint64_t number,
                       const std::exception_ptr& error, bool timed_out);

  void on_frame(int from, const Frame& frame) override;
  void on_departure(int world_rank, const std::string& why) override;
  void on_tick(Clock::Time now, std::span<const Clock::Time> last_heard) override;

  // Passes an event to failures_ with the mutex held, and executes its actions without the mutex.
  template <class Event>
  void update_failures(Event event);
  void forget_finished_messages();
  Clock::Time now() const { return options_.clock->now(); }

  Options options_;
  Channel channel_;

  std::mutex mutex_;
  std::condition_variable changed_;  // for workers: an announcement, or the end
  CallMatcher matcher_;
  FailureAgreement failures_;
  std::map<std::uint64_t, std::shared_ptr<Completion>> awaited_messages_;
  std::uint64_t last_message_id_ = 0;
  DataMover* mover_ = nullptr;

  Messages messages_;
  WorkerThreads workers_;
};

}  // namespace trireme::message
