#include "trireme/comm/message/group.h"

#include <fmt/format.h>

#include <numeric>
#include <utility>
#include <variant>

#include "trireme/base/error.h"
#include "trireme/comm/semantics.h"

namespace trireme::message {

namespace {

std::vector<int> all_ranks(int size) {
  std::vector<int> ranks(static_cast<std::size_t>(size));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

PendingCall pending(const Operation& operation, std::uint64_t number) {
  return {operation, CallSite(operation.where), number, operation.timeout};
}

int lost_rank_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const CommError& known) {
    return known.lost_rank();
  } catch (...) {
    return -1;
  }
}

}  // namespace

class Group::CollectiveWork final : public Work::State {
 public:
  explicit CollectiveWork(std::shared_ptr<Completion> completion)
      : completion_(std::move(completion)) {}

  bool test() override {
    if (!completion_->is_complete()) return false;
    completion_->wait();
    return true;
  }
  void wait() override { completion_->wait(); }

 private:
  std::shared_ptr<Completion> completion_;
};

/// A collective times out by itself if a rank is late; a message only while this rank waits for it.
class Group::MessageWork final : public Work::State {
 public:
  MessageWork(Group& group, const Operation& operation, std::shared_ptr<Completion> completion)
      : group_(group), completion_(std::move(completion)) {
    wait_.call = pending(operation, 0);
    wait_.since = group.now();
  }
  ~MessageWork() override {
    if (wait_.id == 0) return;
    const std::lock_guard lock(group_.mutex_);
    group_.failures_.message_finished(wait_.id);
    group_.awaited_messages_.erase(wait_.id);
  }

  bool test() override {
    if (!completion_->is_complete()) await();
    if (!completion_->is_complete()) return false;
    completion_->wait();
    return true;
  }

  void wait() override {
    if (!completion_->is_complete()) {
      wait_.deadline = group_.now() + group_.options_.timeout;
      await();
    }
    completion_->wait();
  }

 private:
  void await() {
    group_.update_failures([&](FailureAgreement& failures, Clock::Time now) {
      if (wait_.id == 0) wait_.id = ++group_.last_message_id_;
      group_.awaited_messages_[wait_.id] = completion_;
      return failures.waits_for_message(wait_, now);
    });
  }

  Group& group_;
  std::shared_ptr<Completion> completion_;
  FailureAgreement::MessageWait wait_;
};

std::unique_ptr<Group> Group::world(std::unique_ptr<Transport> transport, Options options) {
  const int rank = transport->rank();
  const int size = transport->size();
  auto dispatcher = std::make_shared<FrameDispatcher>(std::move(transport), *options.clock,
                                                      options.heartbeat_timeout);
  dispatcher->reserve(0);  // the first channel is the world's
  return std::unique_ptr<Group>(
      new Group(std::move(dispatcher), 0, rank, all_ranks(size), options));
}

Group::Group(std::shared_ptr<FrameDispatcher> dispatcher, std::uint32_t channel, int rank,
             std::vector<int> world_ranks, Options options)
    : Communicator(rank, static_cast<int>(world_ranks.size())),
      options_(options),
      channel_(std::move(dispatcher), channel, rank, std::move(world_ranks), options.timeout),
      matcher_(size()),
      failures_(rank, channel_.names(), options.timeout, now()),
      messages_(channel_,
                [this](const Operation& operation, const std::exception_ptr& error,
                       bool timed_out) { transfer_failed(operation, 0, error, timed_out); }),
      // All ranks must call a transport's own collectives in one order.
      workers_(options.native ? 1 : Channel::kWorkers) {
  channel_.dispatcher()->enter(channel, *this);
}

Group::~Group() {
  const auto error = std::make_exception_ptr(CommError("this communicator has been destroyed"));
  {
    const std::lock_guard lock(mutex_);
    failures_.closed(error);
    changed_.notify_all();
  }
  messages_.end(error);
  workers_.stop();
  messages_.stop();
  Frame frame;
  frame.header = {.kind = FrameKind::kLeave};
  channel_.send_to_all(frame);
  channel_.dispatcher()->leave(channel_.number());
}

void Group::end_of_setup() {
  const std::lock_guard lock(mutex_);
  matcher_.end_of_setup();
  failures_.end_of_setup();
}

std::string Group::description() const {
  return fmt::format("{}, {} ranks, sums in {} order", channel_.dispatcher()->transport().name(),
                     size(), options_.native ? "the transport's own" : "tree");
}

void Group::check() {
  const std::lock_guard lock(mutex_);
  failures_.check();
}

void Group::abort(std::exception_ptr error) {
  update_failures([&](FailureAgreement& failures, Clock::Time) { return failures.aborted(error); });
}

void Group::move_with(DataMover& mover) {
  std::exception_ptr error;
  {
    const std::lock_guard lock(mutex_);
    mover_ = &mover;
    error = failures_.error();
  }
  if (error) mover.abort(error);
}

Work Group::start(const Operation& operation) {
  std::unique_lock lock(mutex_);
  if (failures_.error()) std::rethrow_exception(failures_.error());
  if (semantics_of(operation.kind).is_message) {
    lock.unlock();
    return start_message(operation);
  }
  auto completion = std::make_shared<Completion>();
  const std::uint64_t number = matcher_.next_number();
  const Frame announcement = announcement_of(operation, number);
  matcher_.add(rank(), announcement);
  failures_.started(number);
  changed_.notify_all();
  lock.unlock();
  const int worker = static_cast<int>(number % static_cast<std::uint64_t>(workers_.count()));
  workers_.run(worker,
               [this, worker, job = Job{operation, number, completion}] { execute(job, worker); });
  channel_.send_to_all(announcement);
  return Work(std::make_unique<CollectiveWork>(std::move(completion)));
}

Work Group::start_message(const Operation& operation) {
  auto completion =
      operation.kind == OpKind::kSend ? messages_.send(operation) : messages_.recv(operation);
  return Work(std::make_unique<MessageWork>(*this, operation, std::move(completion)));
}

bool Group::travels_inline(const Operation& operation) const {
  return fits_inline(operation, size(), kInlineBytes);
}

Frame Group::announcement_of(const Operation& operation, std::uint64_t number) const {
  Frame frame;
  frame.header = {.kind = FrameKind::kAnnouncement,
                  .number = number,
                  .call = operation,
                  .site = CallSite(operation.where)};
  if (gives(operation, rank()) && operation.device == Device::kCpu && operation.in.count > 0 &&
      travels_inline(operation)) {
    frame.set_payload({operation.in.as<char>(), operation.in.bytes()});
  }
  return frame;
}

void Group::execute(const Job& job, int worker) {
  if (try_to_execute(job, worker)) {
    update_failures([&](FailureAgreement& failures, Clock::Time now) {
      return failures.finished(job.number, now);
    });
    return job.completion->complete();
  }
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return failures_.error() != nullptr; });
  job.completion->complete(failures_.error());
}

// Returns false if the operation has failed; it has then been reported to failures_.
bool Group::try_to_execute(const Job& job, int worker) {
  const Operation& operation = job.operation;
  Deadline deadline = Deadline::max();
  try {
    const std::vector<Frame> announcements = wait_for_announcements(job);
    if (operation.device != Device::kCpu) return true;
    if (travels_inline(operation)) {
      std::vector<const char*> inputs;
      for (const Frame& announcement : announcements) inputs.push_back(announcement.payload);
      finish_from_inputs(operation, rank(), inputs);
      return true;
    }
    deadline = channel_.deadline();
    move(operation, worker);
    return true;
  } catch (const CommError&) {
    const bool timed_out = std::chrono::steady_clock::now() >= deadline;
    transfer_failed(operation, job.number, std::current_exception(), timed_out);
  } catch (const Error&) {
    update_failures(
        [&, error = std::current_exception()](FailureAgreement& failures, Clock::Time now) {
          return failures.failed(job.number, error, now);
        });
  }
  return false;
}

// Throws the error of the communicator if it has ended, or the error of a mismatch.
std::vector<Frame> Group::wait_for_announcements(const Job& job) {
  update_failures([&](FailureAgreement& failures, Clock::Time now) {
    return failures.executing(pending(job.operation, job.number), now);
  });
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return failures_.error() || matcher_.is_complete(job.number); });
  if (failures_.error()) std::rethrow_exception(failures_.error());
  std::vector<Frame> announcements = matcher_.match(job.number);
  failures_.matched(job.number);
  changed_.notify_all();  // the next collective may be complete as well
  return announcements;
}

void Group::move(const Operation& operation, int worker) {
  DataMover* mover = nullptr;
  {
    const std::lock_guard lock(mutex_);
    mover = mover_;
  }
  if (mover != nullptr && mover->move(operation, worker)) return;
  const bool is_world = size() == channel_.transport().size();
  if (options_.native && is_world &&
      channel_.transport().run_native(operation, channel_.deadline())) {
    return channel_.transfers().count(data_of(operation, size(), rank()));
  }
  move_by_chunks(operation, channel_.exchange(2 * worker));
}

// `number` is that of a collective, or 0 for a message.
void Group::transfer_failed(const Operation& operation, std::uint64_t number,
                            const std::exception_ptr& error, bool timed_out) {
  const int world_rank = lost_rank_of(error);
  const FailureAgreement::FailedTransfer transfer = {
      .rank = world_rank < 0 ? -1 : channel_.rank_of(world_rank),
      .timed_out = timed_out,
      .error = error};
  update_failures([&](FailureAgreement& failures, Clock::Time now) {
    return failures.transfer_failed(pending(operation, number), transfer, now);
  });
}

void Group::on_frame(int from, const Frame& frame) {
  const int sender = channel_.rank_of(from);
  channel_.transfers().count({0, static_cast<std::int64_t>(frame.bytes())});
  update_failures([&](FailureAgreement& failures, Clock::Time now) -> FailureAgreement::Actions {
    switch (frame.header.kind) {
      case FrameKind::kAnnouncement:
        matcher_.add(sender, frame);
        changed_.notify_all();
        return failures.called(sender, frame.header, now);
      case FrameKind::kMessage:
        return failures.called(sender, frame.header, now);
      case FrameKind::kLeave:
        return failures.left(sender, now);
      case FrameKind::kAgreedError:
        return failures.received(agreed_error_of(frame), now);
      case FrameKind::kHeartbeat:
      case FrameKind::kShutdown:
      case FrameKind::kShutdownAck:
        return {};
    }
    return {};
  });
  if (frame.header.kind == FrameKind::kMessage) messages_.on_message(sender, frame);
}

void Group::on_departure(int world_rank, const std::string& why) {
  const int rank = channel_.rank_of(world_rank);
  if (rank < 0) return;
  update_failures([&](FailureAgreement& failures, Clock::Time now) {
    forget_finished_messages();
    return why.empty() ? failures.left(rank, now) : failures.lost(rank, why, now);
  });
}

void Group::on_tick(Clock::Time now, std::span<const Clock::Time> last_heard) {
  update_failures([&](FailureAgreement& failures, Clock::Time) {
    for (int rank = 0; rank < size(); ++rank) {
      const int world_rank = channel_.world_ranks()[static_cast<std::size_t>(rank)];
      failures.heard(rank, last_heard[static_cast<std::size_t>(world_rank)]);
    }
    forget_finished_messages();
    return failures.time_passed(now);
  });
}

// Requires the mutex. These operations are complete even if the threads that wait for them have not
// returned yet.
void Group::forget_finished_messages() {
  std::erase_if(awaited_messages_, [&](const auto& awaited) {
    const auto& [id, completion] = awaited;
    if (!completion->is_complete()) return false;
    failures_.message_finished(id);
    return true;
  });
}

template <class Event>
void Group::update_failures(Event event) {
  FailureAgreement::Actions actions;
  DataMover* mover = nullptr;
  {
    const std::lock_guard lock(mutex_);
    actions = event(failures_, now());
    mover = mover_;
    if (!actions.empty()) changed_.notify_all();
  }
  for (const FailureAgreement::Action& action : actions) {
    if (const auto* end = std::get_if<FailureAgreement::End>(&action)) {
      messages_.end(end->error);
      channel_.transfers().abort();
      if (mover != nullptr) mover->abort(end->error);
    } else if (const auto* send = std::get_if<FailureAgreement::SendError>(&action)) {
      channel_.send_to_all(frame_of(send->error));
    } else {
      channel_.transfers().abort();
    }
  }
}

}  // namespace trireme::message
