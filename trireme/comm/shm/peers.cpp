#include "trireme/comm/shm/peers.h"

#include <fmt/format.h>

#include "trireme/base/error.h"
#include "trireme/base/process_state.h"

namespace trireme::shm {

namespace {

std::string in_seconds(std::chrono::milliseconds time) {
  return fmt::format("{:g} s", std::chrono::duration<double>(time).count());
}

}  // namespace

Peers::Peers(std::shared_ptr<Member> member, std::uint64_t area_offset, int rank,
             std::vector<int> world_ranks)
    : member_(std::move(member)),
      area_(member_->segment().base() + area_offset, static_cast<int>(world_ranks.size())),
      rank_(rank),
      world_ranks_(std::move(world_ranks)),
      timeout_(member_->timeout()) {}

void Peers::post(std::uint64_t number) {
  area_.slot(rank_).ring[number % kRing].number.store(number);
  wake_those_awaiting();
}

void Peers::publish_progress(std::uint64_t progress) {
  area_.slot(rank_).progress.store(progress);
  wake_those_awaiting();
}

void Peers::wake_those_awaiting() {
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank_) nudge(peer);
  }
}

void Peers::nudge(int rank) {
  std::atomic<std::int32_t>& awaiting = area_.slot(rank).awaiting;
  std::int32_t awaited = awaiting.load();
  if (awaited != kAnyRank && awaited != rank_ + 1) return;
  // If several ranks ring at the same time, one of them makes the system call.
  if (awaiting.compare_exchange_strong(awaited, kAwake)) {
    ring(member_->segment().control(world_ranks_[rank]).doorbell);
  }
}

std::string Peers::name(int rank) const {
  const int world_rank = world_ranks_[rank];
  return world_rank == rank ? fmt::format("rank {}", rank)
                            : fmt::format("rank {} (rank {} of the world)", rank, world_rank);
}

bool Peers::is_lost(int rank) const {
  return member_->segment().is_lost(world_ranks_[rank]);
}

bool Peers::any_lost() const {
  for (int peer = 0; peer < size(); ++peer) {
    if (is_lost(peer)) return true;
  }
  return false;
}

void Peers::throw_lost() const {
  int peer = 0;
  while (!is_lost(peer)) ++peer;
  const std::string_view why = member_->segment().why_lost(world_ranks_[peer]);
  throw CommError(fmt::format("{} is lost: {}", name(peer), why), peer);
}

bool Peers::has_left(int rank) const {
  return area_.slot(rank).left.load() != 0 || member_->segment().has_ended(world_ranks_[rank]);
}

void Peers::throw_left(int rank, const Operation* needed_by) const {
  const std::string before =
      needed_by == nullptr
          ? ""
          : fmt::format(" before {}", describe(*needed_by, CallSite(needed_by->where)));
  // The error names the cause: a rank that has left because of another rank has recorded that rank.
  const int cause = area_.slot(rank).left.load() - 1;
  if (cause < 0) {
    throw CommError(
        fmt::format("{} has ended{}, without destroying its communicator", name(rank), before),
        rank);
  }
  if (is_lost(cause)) throw_lost();
  throw CommError(fmt::format("{} has left{}", name(cause), before), cause);
}

void Peers::time_out(int awaited, std::uint64_t number, const Operation& operation,
                     std::chrono::milliseconds waited) const {
  std::uint64_t last = 0;
  for (std::uint64_t i = 0; i < kRing; ++i) {
    const std::uint64_t posted = area_.slot(awaited).ring[i].number.load();
    if (posted > last) last = posted;
  }
  const std::string did = number > 0 && last >= number ? "did not go on with" : "did not come to";
  std::string history = "it has made no call";
  if (last > 0) {
    const Descriptor& made = descriptor(awaited, last);
    history =
        fmt::format("its last call was {} (operation {})", describe(made.call, made.site), last);
  }
  const int process = member_->segment().control(world_ranks_[awaited]).process.load();
  throw CommError(
      fmt::format("{} {} {} within {}; {}; {}", name(awaited), did,
                  describe(operation, CallSite(operation.where)), in_seconds(waited), history,
                  process == 0 ? "it has not joined" : state_of_process(process)),
      awaited);
}

int Peers::first_failed() const {
  for (int peer = 0; peer < size(); ++peer) {
    if (area_.slot(peer).failed.load() != 0) return peer;
  }
  return -1;
}

void Peers::leave(int blamed, bool in_failure) {
  if (in_failure) area_.slot(rank_).failed.store(1);
  area_.slot(rank_).left.store(blamed + 1);
  wake_those_awaiting();
}

void Peers::go() {
  area_.slot(rank_).gone.store(1);
}

}  // namespace trireme::shm
