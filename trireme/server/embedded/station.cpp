#include "trireme/server/embedded/station.h"

#include <fmt/format.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>
#include <new>

#include "trireme/base/error.h"

namespace trireme::server {

namespace {

constexpr std::size_t kCacheLine = 64;
constexpr int kSpins = 40;  // before the core is offered to others

std::size_t aligned(std::size_t bytes) {
  return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
}

std::size_t bells_at() {
  return aligned(sizeof(Front));
}

std::size_t desks_at(int shards) {
  return bells_at() + static_cast<std::size_t>(shards) * kCacheLine;
}

std::size_t payloads_at(int shards) {
  return desks_at(shards) + static_cast<std::size_t>(shards) * sizeof(Desk);
}

}  // namespace

void Bell::give_way(int round) {
  if (round >= kSpins) {
    ::sched_yield();
    return;
  }
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

void Bell::ring() {
  if (asleep.load() == 0) return;
  rings.fetch_add(1);
  ::syscall(SYS_futex, &rings, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void Bell::sleep(std::uint32_t heard, std::chrono::milliseconds at_most) {
  const auto count = at_most.count();
  const timespec limit{count / 1000, count % 1000 * 1'000'000};
  ::syscall(SYS_futex, &rings, FUTEX_WAIT, heard, &limit, nullptr, 0);
}

Station::Station(Communicator& world, int shards, std::size_t payload_bytes)
    : shards_(shards),
      worker_(world.rank()),
      part_bytes_(payloads_at(shards) + aligned(payload_bytes)),
      memory_(world.allocate(part_bytes_)),
      taken_(payloads_at(shards)) {
  for (int rank = 0; rank < world.size(); ++rank) {
    parts_.push_back(static_cast<std::byte*>(memory_.peer(rank)));
    if (parts_.back() == nullptr) {
      throw UsageError(fmt::format(
          "parameter server: rank {} of {} does not share memory with rank {}; across hosts start "
          "`trireme serve` and name the servers in communication.servers",
          world.rank(), world.size(), rank));
    }
  }
  new (part(worker_)) Front;
  front(worker_).process = ::getpid();
  for (int shard = 0; shard < shards_; ++shard) {
    new (part(worker_) + bells_at() + static_cast<std::size_t>(shard) * kCacheLine) Bell;
    Desk& desk = this->desk(worker_, shard);
    desk.asked.store(0);
    desk.answered.store(0);
  }
  world.barrier();
}

Desk& Station::desk(int worker, int shard) const {
  return *reinterpret_cast<Desk*>(part(worker) + desks_at(shards_) +
                                  static_cast<std::size_t>(shard) * sizeof(Desk));
}

Bell& Station::asked(int shard) const {
  return *reinterpret_cast<Bell*>(part(0) + bells_at() +
                                  static_cast<std::size_t>(shard) * kCacheLine);
}

std::byte* Station::allocate(std::size_t bytes) {
  if (aligned(bytes) > part_bytes_ - taken_) return nullptr;
  std::byte* const at = part(worker_) + taken_;
  taken_ += aligned(bytes);
  return at;
}

bool Station::holds(int worker, const std::byte* data, std::size_t bytes) const {
  return data >= part(worker) && data + bytes <= part(worker) + part_bytes_;
}

}  // namespace trireme::server
