#include "trireme/server/embedded/shared_mailbox.h"

#include <fmt/format.h>
#include <unistd.h>

#include <new>

#include "trireme/base/error.h"

namespace trireme::server {

namespace {

constexpr std::size_t kCacheLine = 64;

std::size_t aligned(std::size_t bytes) {
  return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
}

std::size_t events_at() {
  return aligned(sizeof(MailboxHeader));
}

std::size_t slots_at(int shards) {
  return events_at() + static_cast<std::size_t>(shards) * kCacheLine;
}

std::size_t payloads_at(int shards) {
  return slots_at(shards) + static_cast<std::size_t>(shards) * sizeof(MailboxSlot);
}

}  // namespace

SharedMailbox::SharedMailbox(Communicator& world, int shards, std::size_t payload_bytes)
    : shards_(shards),
      worker_(world.rank()),
      part_bytes_(payloads_at(shards) + aligned(payload_bytes)),
      memory_(world.allocate(part_bytes_)),
      used_(payloads_at(shards)) {
  for (int rank = 0; rank < world.size(); ++rank) {
    parts_.push_back(static_cast<std::byte*>(memory_.peer(rank)));
    if (parts_.back() == nullptr) {
      throw UsageError(fmt::format(
          "parameter server: rank {} of {} does not share memory with rank {}; across hosts start "
          "`trireme serve` and name the servers in communication.servers",
          world.rank(), world.size(), rank));
    }
  }
  new (part(worker_)) MailboxHeader;
  header(worker_).process = ::getpid();
  for (int shard = 0; shard < shards_; ++shard) {
    new (part(worker_) + events_at() + static_cast<std::size_t>(shard) * kCacheLine) FutexEvent;
    MailboxSlot& slot = this->slot(worker_, shard);
    slot.requests.store(0);
    slot.replies.store(0);
  }
  world.barrier();
}

MailboxSlot& SharedMailbox::slot(int worker, int shard) const {
  return *reinterpret_cast<MailboxSlot*>(part(worker) + slots_at(shards_) +
                                         static_cast<std::size_t>(shard) * sizeof(MailboxSlot));
}

FutexEvent& SharedMailbox::requested(int shard) const {
  return *reinterpret_cast<FutexEvent*>(part(0) + events_at() +
                                        static_cast<std::size_t>(shard) * kCacheLine);
}

std::byte* SharedMailbox::allocate(std::size_t bytes) {
  if (aligned(bytes) > part_bytes_ - used_) return nullptr;
  std::byte* const at = part(worker_) + used_;
  used_ += aligned(bytes);
  return at;
}

bool SharedMailbox::contains(int worker, const std::byte* data, std::size_t bytes) const {
  return data >= part(worker) && data + bytes <= part(worker) + part_bytes_;
}

}  // namespace trireme::server
