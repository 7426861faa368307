#include "trireme/comm/message/group.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "trireme/base/error.h"
#include "trireme/comm/semantics.h"

namespace trireme::message {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// So long may one piece of news trail behind another: the completion of a send behind its receiver,
// content, having left.
constexpr std::chrono::milliseconds kGrace = 250ms;

std::string in_seconds(std::chrono::milliseconds time) {
  return fmt::format("{:g} s", std::chrono::duration<double>(time).count());
}

std::vector<int> all_ranks(int size) {
  std::vector<int> ranks(size);
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

}  // namespace

/// Waits for a ticket, and sees to it that a message which nobody else watches over ends.
class Group::TicketWork final : public Work::State {
 public:
  TicketWork(Group& group, Operation operation, std::shared_ptr<Ticket> ticket)
      : group_(group), operation_(std::move(operation)), ticket_(std::move(ticket)) {}

  bool test() override {
    std::unique_lock lock(group_.mutex_);
    if (!ticket_->done && is_message()) check_peer(lock, Clock::time_point::max());
    return finish();
  }

  void wait() override {
    std::unique_lock lock(group_.mutex_);
    const Deadline deadline = group_.deadline();
    while (!ticket_->done) {
      if (!is_message()) {
        group_.changed_.wait(lock);
        continue;
      }
      group_.changed_.wait_for(lock, 100ms);
      if (!ticket_->done) check_peer(lock, deadline);
    }
    finish();
  }

 private:
  bool is_message() const {
    return operation_.kind == OpKind::kSend || operation_.kind == OpKind::kRecv;
  }

  bool finish() {
    if (ticket_->done && ticket_->error) std::rethrow_exception(ticket_->error);
    return ticket_->done;
  }

  // Ends the communicator if the message can come no more.
  void check_peer(std::unique_lock<std::mutex>& lock, Deadline deadline) {
    const Peer& peer = group_.peers_[operation_.root];
    const auto now = Clock::now();
    if (!peer.left && !peer.lost) gone_since_ = now;
    const bool hopeless = peer.lost || (peer.left && now - gone_since_ >= kGrace);
    if (!hopeless && now < deadline) return;
    lock.unlock();
    try {
      group_.throw_for(operation_.root, operation_, 0, deadline);
    } catch (const Error&) {
      group_.end(std::current_exception(), true);
    }
    lock.lock();
    group_.changed_.wait(lock, [&] { return ticket_->done; });
  }

  Group& group_;
  Operation operation_;
  std::shared_ptr<Ticket> ticket_;
  Clock::time_point gone_since_ = Clock::now();
};

std::unique_ptr<Group> Group::world(std::unique_ptr<Transport> transport, Options options) {
  std::unique_ptr<Group> group(new Group(std::move(transport), options));
  group->start_lanes();
  return group;
}

Group::Group(std::unique_ptr<Transport> transport, Options options)
    : Group(std::make_shared<Hub>(std::move(transport)), options) {}

// The first channel is the world's.
Group::Group(std::shared_ptr<Hub> hub, Options options)
    : Group(hub, 0, hub->transport().rank(), all_ranks(hub->transport().size()), options) {
  hub->reserve(0);
}

Group::Group(std::shared_ptr<Hub> hub, std::uint32_t channel, int rank,
             std::vector<int> world_ranks, Options options)
    : Communicator(rank, static_cast<int>(world_ranks.size())),
      hub_(std::move(hub)),
      channel_(channel),
      world_ranks_(std::move(world_ranks)),
      options_(options),
      peers_(world_ranks_.size()),
      // The engine's own collectives must be called in one order everywhere.
      lanes_(options.native ? 1 : kLanes) {
  messages_ = std::make_unique<Messages>(Messages::Context{
      .mutex = mutex_,
      .changed = changed_,
      .exchange =
          [this](const Operation&) { return exchange(kTags - 1, world_ranks_, this->rank()); },
      .fail =
          [this](const Operation& operation, const std::exception_ptr&) {
            try {
              throw_for(operation.root, operation, 0, Clock::now() + 1s);
            } catch (const Error&) {
              end(std::current_exception(), true);
            }
          },
      .say =
          [this](int to, Frame frame) {
            frame.header.channel = channel_;
            say(to, frame);
          },
      .rank = rank,
      .size = size()});
}

void Group::start_lanes() {
  hub_->enter(channel_, *this);
  for (std::size_t lane = 0; lane < lanes_.size(); ++lane) {
    lanes_[lane].thread = std::thread([this, lane] { run_lane(static_cast<int>(lane)); });
  }
}

void Group::stop_lanes() {
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return;
    closing_ = true;
    if (!error_) {
      error_ = std::make_exception_ptr(CommError("this communicator has been destroyed"));
      messages_->end(error_);
    }
    changed_.notify_all();
  }
  for (Lane& lane : lanes_) {
    if (lane.thread.joinable()) lane.thread.join();
  }
  messages_->stop();
  Frame frame;
  frame.header = {.kind = FrameKind::kLeave};
  say_to_all(frame);
  hub_->leave(channel_);
}

Group::~Group() {
  stop_lanes();
}

void Group::end_of_setup() {
  const std::lock_guard lock(mutex_);
  setup_operations_ = started_;
}

std::string Group::description() const {
  return fmt::format("{}, {} ranks, sums in {} order", hub_->transport().name(), size(),
                     options_.native ? "the engine's own" : "tree");
}

void Group::abort(std::exception_ptr error) {
  end(std::move(error), true);
}

Exchange Group::exchange(int tag, std::span<const int> world_ranks, int rank) {
  return Exchange(hub_->transport(), transfers_, static_cast<int>(channel_) * kTags + tag,
                  world_ranks, rank, deadline());
}

void Group::move(const Operation& operation, int lane) {
  const bool is_world = size() == hub_->transport().size();
  if (options_.native && is_world && hub_->transport().carry_out_natively(operation, deadline())) {
    return transfers_.count(data_of(operation, size(), rank()));
  }
  move_by_pieces(operation, exchange(2 * lane, world_ranks_, rank()));
}

Work Group::start(const Operation& operation) {
  std::unique_lock lock(mutex_);
  if (error_) std::rethrow_exception(error_);
  if (operation.kind == OpKind::kSend || operation.kind == OpKind::kRecv) {
    auto ticket =
        operation.kind == OpKind::kSend ? messages_->send(operation) : messages_->recv(operation);
    if (ticket->done && !ticket->error) return Work();
    return Work(std::make_unique<TicketWork>(*this, operation, std::move(ticket)));
  }
  auto ticket = std::make_shared<Ticket>();
  const std::uint64_t number = ++started_;
  const Frame post = post_of(operation, number);
  unfinished_.insert(number);
  peers_[rank()].posts.emplace(number, post);
  lanes_[number % lanes_.size()].jobs.push_back({operation, number, ticket});
  changed_.notify_all();
  lock.unlock();
  say_to_all(post);
  return Work(std::make_unique<TicketWork>(*this, operation, std::move(ticket)));
}

bool Group::travels_inline(const Operation& operation) const {
  return fits_inline(operation, size(), kInlineBytes);
}

Frame Group::post_of(const Operation& operation, std::uint64_t number) const {
  Frame frame;
  frame.header = {.kind = FrameKind::kPost,
                  .channel = channel_,
                  .number = number,
                  .call = operation,
                  .site = CallSite(operation.where)};
  if (gives(operation, rank()) && operation.device == Device::kCpu && operation.in.count > 0 &&
      travels_inline(operation)) {
    frame.set_payload({operation.in.as<char>(), operation.in.bytes()});
  }
  return frame;
}

void Group::run_lane(int index) {
  Lane& lane = lanes_[index];
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return closing_ || !lane.jobs.empty(); });
    if (lane.jobs.empty()) return;
    const Job job = lane.jobs.front();
    bool done = false;
    if (!error_) {
      lock.unlock();
      done = carry_out(job, index);
      lock.lock();
    }
    lane.jobs.pop_front();
    unfinished_.erase(job.number);
    if (!done) job.ticket->error = error_;
    job.ticket->done = true;
    changed_.notify_all();
    lock.unlock();
    heed_verdict();
    lock.lock();
  }
}

// False if it failed: the communicator is then over.
bool Group::carry_out(const Job& job, int lane) {
  const Operation& operation = job.operation;
  const Deadline late = deadline();
  try {
    try {
      const std::vector<Frame> posts = match(job);
      if (operation.device != Device::kCpu) return true;
      if (travels_inline(operation)) {
        std::vector<const char*> inputs;
        for (const Frame& post : posts) inputs.push_back(post.payload);
        finish_from_inputs(operation, rank(), inputs);
      } else {
        move(operation, lane);
      }
      return true;
    } catch (const CommError& error) {
      // The transport counts in its own ranks, and knows nothing of calls.
      throw_if_over();
      const int culprit = error.lost_rank() >= 0 ? rank_of(error.lost_rank()) : first_lost();
      if (culprit < 0) throw;
      throw_for(culprit, operation, job.number, late);
    }
  } catch (const UsageError&) {
    fail(job, std::current_exception(), false);
  } catch (const Error&) {
    fail(job, std::current_exception(), true);
  }
  return false;
}

// Operations before this one may still succeed: their ranks had come.
void Group::fail(const Job& job, const std::exception_ptr& error, bool tell) {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return error_ || first_unfinished() == job.number; });
  }
  end(error, tell);
}

// Waits until every rank has come to this operation and compares what they call. In the order of
// the operations, or two lanes on two ranks would find different mismatches first.
std::vector<Frame> Group::match(const Job& job) {
  const Deadline late = deadline();
  std::unique_lock lock(mutex_);
  int missing = -1;
  changed_.wait_until(lock, late, [&] {
    missing = first_missing(job.number);
    if (error_) return true;
    if (matched_ + 1 < job.number) return false;
    if (missing < 0) return true;
    // Whoever is gone for good ends the wait, whoever else is missing.
    for (int peer = 0; peer < size(); ++peer) {
      if (peers_[peer].lost || (peers_[peer].left && !peers_[peer].posts.contains(job.number))) {
        missing = peer;
        return true;
      }
    }
    return false;
  });
  if (error_) std::rethrow_exception(error_);
  if (missing >= 0) {
    lock.unlock();
    throw_for(missing, job.operation, job.number, late);
  }
  std::vector<Frame> posts;
  for (Peer& peer : peers_) {
    const auto post = peer.posts.find(job.number);
    posts.push_back(post->second);
    peer.posts.erase(post);
  }
  std::vector<CallOfRank> calls;
  for (int peer = 0; peer < size(); ++peer) {
    calls.push_back({peer, posts[peer].header.call, posts[peer].header.site});
  }
  require_agreement(calls, job.number - setup_operations_);
  matched_ = job.number;
  changed_.notify_all();
  return posts;
}

int Group::first_missing(std::uint64_t number) const {
  for (int peer = 0; peer < size(); ++peer) {
    if (!peers_[peer].posts.contains(number)) return peer;
  }
  return -1;
}

int Group::first_lost() const {
  const std::lock_guard lock(mutex_);
  const auto lost =
      std::find_if(peers_.begin(), peers_.end(), [](const Peer& p) { return p.lost; });
  return lost == peers_.end() ? -1 : static_cast<int>(lost - peers_.begin());
}

void Group::throw_for(int culprit, const Operation& operation, std::uint64_t number,
                      Deadline deadline) {
  const bool late = Clock::now() >= deadline;
  if (late) culprit = suspect(culprit, number);
  const std::string state = hub_->state_of(world_ranks_[culprit]);
  std::unique_lock lock(mutex_);
  const Peer& peer = peers_[culprit];
  const auto is_known = [&] { return error_ || peer.lost || peer.left; };
  // A transfer may notice a broken connection before the Hub does, and a rank of this host may have
  // given up before it says why.
  changed_.wait_for(lock, late ? kGrace : 1s, is_known);
  if (error_) std::rethrow_exception(error_);
  if (peer.lost) {
    throw CommError(fmt::format("{} is lost: {}", name(culprit), peer.why), culprit);
  }
  if (peer.left) throw CommError(fmt::format("{} has left", name(culprit)), culprit);
  if (!late) {
    throw CommError(fmt::format("{} is lost: the connection broke", name(culprit)), culprit);
  }
  std::string history = "it has made no call";
  if (peer.has_called) {
    history =
        fmt::format("its last call was {} (operation {})", describe(peer.last.call, peer.last.site),
                    peer.last.number - std::min(peer.last.number, setup_operations_));
  }
  throw CommError(
      fmt::format("{} {} {} within {}; {}; {}", name(culprit),
                  number > 0 && peer.last_post >= number ? "did not go on with" : "did not come to",
                  describe(operation, CallSite(operation.where)), in_seconds(options_.timeout),
                  history, state),
      culprit);
}

// Whoever waits for `culprit` may wait for one that waits for another, which is silent.
int Group::suspect(int culprit, std::uint64_t number) const {
  const int silent = rank_of(hub_->most_silent(world_ranks_));
  if (silent < 0) return culprit;
  const std::lock_guard lock(mutex_);
  const auto came = [&](int rank) { return peers_[rank].last_post >= number; };
  return number > 0 && came(silent) && !came(culprit) ? culprit : silent;
}

void Group::check() {
  throw_if_over();
  const std::lock_guard lock(mutex_);
  for (int peer = 0; peer < size(); ++peer) {
    if (!peers_[peer].lost) continue;
    throw CommError(fmt::format("{} is lost: {}", name(peer), peers_[peer].why), peer);
  }
}

void Group::throw_if_over() const {
  const std::lock_guard lock(mutex_);
  if (error_) std::rethrow_exception(error_);
}

void Group::on_frame(int from, const Frame& frame) {
  const int sender = rank_of(from);
  transfers_.count({0, static_cast<std::int64_t>(frame.bytes())});
  std::unique_lock lock(mutex_);
  Peer& peer = peers_[sender];
  switch (frame.header.kind) {
    case FrameKind::kPost:
      peer.posts.emplace(frame.header.number, frame);
      peer.last_post = frame.header.number;
      peer.last = frame.header;
      peer.has_called = true;
      break;
    case FrameKind::kMessage:
      peer.last = frame.header;
      peer.has_called = true;
      messages_->on_message(sender, frame);
      break;
    case FrameKind::kLeave:
      peer.left = true;
      break;
    case FrameKind::kVerdict: {
      if (!verdict_) {
        const std::string why(frame.text());
        const int culprit = static_cast<int>(frame.header.number) - 1;
        verdict_ = std::make_exception_ptr(CommError(why, culprit));
        verdict_from_ = static_cast<std::uint64_t>(frame.header.call.count);
      }
      lock.unlock();
      heed_verdict();
      return;
    }
    case FrameKind::kAlive:
    case FrameKind::kGoodbye:
      break;
  }
  changed_.notify_all();
}

void Group::on_gone(int world_rank, const std::string& why) {
  const int who = rank_of(world_rank);
  if (who < 0) return;
  {
    const std::lock_guard lock(mutex_);
    Peer& peer = peers_[who];
    (why.empty() ? peer.left : peer.lost) = true;
    peer.why = why;
    changed_.notify_all();
  }
  // Whoever waits for another rank would wait for one that waits for this one.
  if (!why.empty()) transfers_.abort();
}

int Group::rank_of(int world_rank) const {
  const auto found = std::find(world_ranks_.begin(), world_ranks_.end(), world_rank);
  return found == world_ranks_.end() ? -1 : static_cast<int>(found - world_ranks_.begin());
}

std::string Group::name(int rank) const {
  const int world_rank = world_ranks_[rank];
  return world_rank == rank ? fmt::format("rank {}", rank)
                            : fmt::format("rank {} (rank {} of the world)", rank, world_rank);
}

std::uint64_t Group::first_unfinished() const {
  return unfinished_.empty() ? started_ + 1 : *unfinished_.begin();
}

void Group::heed_verdict() {
  std::exception_ptr error;
  {
    const std::lock_guard lock(mutex_);
    if (verdict_ && !error_ && first_unfinished() >= verdict_from_) error = verdict_;
  }
  if (error) end(error, false);
}

void Group::end(std::exception_ptr error, bool tell) {
  std::uint64_t first = 0;
  {
    const std::lock_guard lock(mutex_);
    if (error_) return;
    first = first_unfinished();
    error_ = error;
    messages_->end(error);
    changed_.notify_all();
  }
  transfers_.abort();
  if (tell) say_to_all(verdict_of(error, first));
  on_end(error);
}

Frame Group::verdict_of(const std::exception_ptr& error, std::uint64_t first) const {
  Frame frame;
  frame.header = {.kind = FrameKind::kVerdict};
  frame.header.call.count = static_cast<std::int64_t>(first);
  try {
    std::rethrow_exception(error);
  } catch (const CommError& known) {
    frame.header.number = static_cast<std::uint64_t>(known.lost_rank() + 1);
    frame.set_payload(known.what());
  } catch (const std::exception& known) {
    frame.header.number = static_cast<std::uint64_t>(rank() + 1);
    frame.set_payload(fmt::format("{} has failed: {}", name(rank()), known.what()));
  }
  return frame;
}

void Group::say_to_all(const Frame& frame) {
  Frame ours = frame;
  ours.header.channel = channel_;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank()) say(peer, ours);
  }
}

void Group::say(int to, const Frame& frame) {
  transfers_.count({static_cast<std::int64_t>(frame.bytes()), 0});
  hub_->transport().send_frame(world_ranks_[to], frame);
}

}  // namespace trireme::message
