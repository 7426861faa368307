#include "trireme/comm/shm/group.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>

#include "trireme/base/error.h"
#include "trireme/comm/semantics.h"

namespace trireme::shm {

namespace {

using Clock = std::chrono::steady_clock;

// A wake-up costs 15 to 30 us. For that time spinning is the cheaper way to wait, unless the
// awaited rank needs this core; then yielding the core is.
constexpr SpinPolicy kWithACoreEach{1000, 0};
constexpr SpinPolicy kOnSharedCores{20, 50};

// A rank that waits looks every 100 ms.
constexpr Clock::duration kLongestLook = std::chrono::seconds(1);

SpinPolicy spin_policy_for(int ranks) {
  return ranks <= sysconf(_SC_NPROCESSORS_ONLN) ? kWithACoreEach : kOnSharedCores;
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

void hand_over() {
  sched_yield();
}

/// The memory of one rank in allocate().
struct Offer {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t largest_gap = 0;  ///< 0 unless there was no room
};

class SharedBlock final : public Memory::Block {
 public:
  SharedBlock(std::shared_ptr<Member> member, int rank, std::vector<Offer> offers)
      : member_(std::move(member)), rank_(rank), offers_(std::move(offers)) {}
  ~SharedBlock() override {
    if (bytes() > 0) member_->arena().give_back(offers_[rank_].offset, bytes());
  }

  void* data() const override { return peer(rank_); }
  std::size_t bytes() const override { return offers_[rank_].bytes; }
  void* peer(int rank) const override {
    const Offer& offer = offers_[rank];
    return offer.bytes > 0 ? member_->segment().base() + offer.offset : nullptr;
  }

 private:
  std::shared_ptr<Member> member_;
  int rank_;
  std::vector<Offer> offers_;
};

}  // namespace

class Group::CollectiveWork final : public Work::State {
 public:
  CollectiveWork(Group& group, std::uint64_t number, std::chrono::milliseconds timeout)
      : group_(group), number_(number), timeout_(timeout) {}

  bool test() override {
    group_.poll([this] { return done(); });
    return done();
  }
  void wait() override {
    group_.wait_until(timeout_, [this] { return done(); });
  }

 private:
  bool done() const { return group_.finished_ >= number_; }

  Group& group_;
  std::uint64_t number_;
  std::chrono::milliseconds timeout_;
};

class Group::TransferWork final : public Work::State {
 public:
  TransferWork(Group& group, std::shared_ptr<Transfer> transfer)
      : group_(group), transfer_(std::move(transfer)) {}

  bool test() override {
    group_.poll([this] { return transfer_->done; });
    if (transfer_->error) std::rethrow_exception(transfer_->error);
    return transfer_->done;
  }
  void wait() override {
    group_.wait_until(group_.peers_.timeout(), [this] { return transfer_->done; });
    if (transfer_->error) std::rethrow_exception(transfer_->error);
  }

 private:
  Group& group_;
  std::shared_ptr<Transfer> transfer_;
};

Group::Group(std::shared_ptr<Member> member, std::uint64_t area_offset, int rank,
             std::vector<int> world_ranks, bool own_area)
    : Communicator(rank, static_cast<int>(world_ranks.size())),
      peers_(member, area_offset, rank, std::move(world_ranks)),
      member_(std::move(member)),
      area_offset_(area_offset),
      own_area_(own_area),
      spin_policy_(spin_policy_for(member_->segment().header().ranks)),
      mailbox_(peers_),
      blamed_(rank) {}

Group::~Group() {
  peers_.leave(blamed_, error_ != nullptr);
  peers_.go();
  if (own_area_) member_->retire(area_offset_, peers_.world_ranks());
}

Work Group::start(const Operation& operation) {
  throw_if_over();
  if (operation.device == Device::kCpu) traffic_ += data_of(operation, size(), rank());
  if (semantics_of(operation.kind).is_message) {
    auto transfer =
        operation.kind == OpKind::kSend ? mailbox_.send(operation) : mailbox_.recv(operation);
    advance();
    if (transfer->done && !transfer->error) return Work();
    return Work(std::make_unique<TransferWork>(*this, std::move(transfer)));
  }
  const std::uint64_t number = ++started_;
  pending_.emplace_back(operation, number, peers_, scratch_);
  advance();
  if (finished_ >= number) return Work();
  const auto timeout = operation.timeout.count() > 0 ? operation.timeout : peers_.timeout();
  return Work(std::make_unique<CollectiveWork>(*this, number, timeout));
}

void Group::do_progress() {
  throw_if_over();
  advance();
  throw_if_over();
}

void Group::check() {
  const Use use(*this, "check");
  throw_if_over();
  const int failed = peers_.first_failed();
  if (failed < 0 && !peers_.any_lost()) return;
  // The operations that they published before they failed still count: they may have seen a
  // mismatch.
  while (advance()) {
  }
  throw_if_over();
  end_because([&] {
    if (peers_.any_lost()) peers_.throw_lost();
    peers_.throw_left(failed);
  });
  throw_if_over();
}

// An error ends the communicator and is thrown by the call that waits for an operation.
bool Group::advance() {
  if (error_) return false;
  try {
    const bool collectives = advance_collectives();
    return (!mailbox_.idle() && mailbox_.advance()) || collectives;
  } catch (const Error&) {
    error_ = std::current_exception();
    return true;
  }
}

bool Group::advance_collectives() {
  bool moved = false;
  for (;;) {
    while (posted_ < started_ && may_post(posted_ + 1)) {
      pending_[posted_ - finished_].post();
      ++posted_;
      moved = true;
    }
    if (posted_ == finished_) return moved;
    Collective& head = pending_.front();
    moved = head.advance(phases_) || moved;
    if (!head.done()) return moved;
    phases_ += head.phases();
    ends_[++finished_ % kRing] = phases_;
    pending_.pop_front();
  }
}

// A place in the ring is free once all ranks are done with its last operation.
bool Group::may_post(std::uint64_t number) {
  if (number <= kRing) return true;
  if (number - kRing > finished_) return false;
  const std::uint64_t needed = ends_[number % kRing];
  if (cleared_ >= needed) return true;
  std::uint64_t least = phases_;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    const std::uint64_t progress = peers_.progress_of(peer);
    if (progress < needed) {
      slowest_ = peer;
      return false;
    }
    least = std::min(least, progress);
  }
  cleared_ = least;
  return true;
}

template <class Done>
void Group::poll(Done done) {
  const Use use(*this, "test");
  advance();
  if (done()) return;
  throw_if_over();
  check_peers();
  if (!done()) throw_if_over();
}

template <class Done>
void Group::wait_until(std::chrono::milliseconds timeout, Done done) {
  const Use use(*this, "wait");
  const int awake = spin_policy_.spins + spin_policy_.yields;
  Clock::time_point looked;
  Clock::duration waited{};
  int rounds = 0;
  while (!done()) {
    throw_if_over();
    if (advance()) {
      rounds = 0;
      continue;
    }
    if (++rounds <= awake) {
      rounds <= spin_policy_.spins ? relax() : hand_over();
      continue;
    }
    const auto now = Clock::now();
    // Time in which this process was stopped (Ctrl-Z) does not count: its peers were stopped, too.
    waited =
        rounds == awake + 1 ? Clock::duration{} : waited + std::min(now - looked, kLongestLook);
    looked = now;
    const std::uint32_t heard = peers_.rings();
    check_peers();
    check_deadline(waited, timeout);
    if (error_) continue;
    const std::int32_t peer = awaited();
    peers_.sleep(peer, heard, [&] {
      if (advance() || aborted_.load()) rounds = 0;
      return rounds == 0 || awaited() != peer;
    });
  }
}

// Returns the rank that the operations in progress wait for, or kAnyRank if it may be one of
// several.
std::int32_t Group::awaited() const {
  if (!mailbox_.idle() || pending_.empty()) return kAnyRank;
  return posted_ == finished_ ? slowest_ : pending_.front().awaited();
}

void Group::check_peers() {
  const bool lost = peers_.any_lost();
  std::vector<int> needed = mailbox_.awaited();
  if (!pending_.empty()) {
    needed.push_back(posted_ == finished_ ? slowest_ : pending_.front().awaited());
  }
  const auto left =
      std::find_if(needed.begin(), needed.end(), [&](int peer) { return peers_.has_left(peer); });
  if (!lost && left == needed.end()) return;
  // The operations that they published before they left still count.
  if (advance()) return;
  end_because([&] {
    if (lost) peers_.throw_lost();
    peers_.throw_left(*left, operation_awaiting(*left));
  });
}

// Returns an operation in progress that needs `peer`, or null.
const Operation* Group::operation_awaiting(int peer) const {
  if (const Operation* message = mailbox_.awaiting(peer)) return message;
  return pending_.empty() ? nullptr : &pending_.front().operation();
}

void Group::check_deadline(Clock::duration waited, std::chrono::milliseconds timeout) {
  if (waited < timeout) return;
  end_because([&] {
    if (!pending_.empty()) {
      const Collective& head = pending_.front();
      peers_.time_out(posted_ == finished_ ? slowest_ : head.awaited(), head.number(),
                      head.operation(), timeout);
    }
    mailbox_.time_out();
  });
}

void Group::abort(std::exception_ptr error) {
  {
    const std::lock_guard lock(abort_mutex_);
    if (!abort_error_) abort_error_ = std::move(error);
  }
  aborted_.store(true);
  peers_.leave(rank(), true);
  ring(member_->segment().control(member_->world_rank()).doorbell);
}

void Group::throw_if_over() {
  if (aborted_.load(std::memory_order_relaxed) && !error_) {
    const std::lock_guard lock(abort_mutex_);
    error_ = abort_error_;
  }
  if (error_) std::rethrow_exception(error_);
}

template <class Throw>
void Group::end_because(Throw raise) {
  try {
    raise();
  } catch (const CommError& error) {
    error_ = std::current_exception();
    if (error.lost_rank() >= 0) blamed_ = error.lost_rank();
  }
}

template <class T>
std::vector<T> Group::exchange(OpKind kind, T value, SourceLocation where) {
  std::vector<T> all(size());
  Operation operation;
  operation.kind = kind;
  operation.where = where;
  operation.dtype = DType::kU8;
  operation.count = sizeof(T);
  operation.in = {&value, sizeof(T), DType::kU8};
  operation.out = {all.data(), static_cast<std::int64_t>(size() * sizeof(T)), DType::kU8};
  start(operation).wait();
  return all;
}

Memory Group::do_allocate(std::size_t bytes, SourceLocation where) {
  member_->reap();
  Offer offer{0, bytes, 0};
  if (bytes > 0) {
    if (const auto offset = member_->arena().take(bytes)) {
      offer.offset = *offset;
    } else {
      offer.largest_gap = std::max<std::size_t>(1, member_->arena().largest_gap());
    }
  }
  const bool taken = bytes > 0 && offer.largest_gap == 0;
  std::vector<Offer> offers;
  try {
    offers = exchange(OpKind::kAllocate, offer, where);
    for (int peer = 0; peer < size(); ++peer) {
      if (offers[peer].largest_gap == 0) continue;
      throw UsageError(fmt::format(
          "allocate: rank {} wanted {} bytes, the largest gap in its shared memory has {}", peer,
          offers[peer].bytes, offers[peer].largest_gap));
    }
  } catch (...) {
    if (taken) member_->arena().give_back(offer.offset, bytes);
    throw;
  }
  return Memory(std::make_unique<SharedBlock>(member_, rank(), std::move(offers)));
}

std::unique_ptr<Communicator> Group::do_split(int color, int key, SourceLocation where) {
  struct Choice {
    int color;
    int key;
  };
  member_->reap();
  const std::vector<Choice> choices = exchange(OpKind::kSplit, Choice{color, key}, where);
  std::vector<int> ranks;
  for (int peer = 0; peer < size(); ++peer) {
    if (choices[peer].color == color) ranks.push_back(peer);
  }
  std::stable_sort(ranks.begin(), ranks.end(),
                   [&](int a, int b) { return choices[a].key < choices[b].key; });
  const auto group_size = static_cast<int>(ranks.size());
  const bool leads = color >= 0 && ranks.front() == rank();

  // The first rank of each group allocates its area; a rank without room reports that to all ranks.
  std::optional<std::uint64_t> area;
  if (leads) area = member_->arena().take(GroupArea::bytes(group_size));
  const std::vector<std::uint64_t> areas =
      exchange(OpKind::kSplit, leads ? area.value_or(kStaged) : std::uint64_t{0}, where);
  for (int peer = 0; peer < size(); ++peer) {
    if (areas[peer] != kStaged) continue;
    if (area) member_->arena().give_back(*area, GroupArea::bytes(group_size));
    throw UsageError(fmt::format(
        "split: rank {} has no room in its shared memory for another communicator", peer));
  }
  if (color < 0) return nullptr;
  std::vector<int> world_ranks;
  for (const int peer : ranks) world_ranks.push_back(peers_.world_ranks()[peer]);
  const auto position = std::find(ranks.begin(), ranks.end(), rank()) - ranks.begin();
  return std::make_unique<Group>(member_, areas[ranks.front()], static_cast<int>(position),
                                 std::move(world_ranks), leads);
}

}  // namespace trireme::shm
