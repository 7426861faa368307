#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/server/embedded/futex_event.h"

namespace trireme::server {

/// One request of one worker to one server, and its reply, in the worker's part of the shared
/// memory. Between `requests` and `replies` counting up it belongs to the server, otherwise to the
/// worker.
struct alignas(64) MailboxSlot {
  static constexpr std::size_t kBytes = std::size_t{1} << 20;
  /// A request with at most this many bytes of payloads and values takes less time than to wake the
  /// server's thread.
  static constexpr std::uint64_t kFewBytes = std::uint64_t{64} << 10;

  /// A payload in the worker's part.
  struct Extent {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
  };

  std::atomic<std::uint64_t> requests{0};  ///< so far
  std::uint64_t header_bytes = 0;
  std::uint64_t payloads = 0;  ///< extents of the request: its payloads,
  std::uint64_t outputs = 0;   ///< and then the memory for the values that it reads
  std::uint64_t bytes = 0;     ///< of all extents

  alignas(64) std::atomic<std::uint64_t> replies{0};
  std::uint64_t reply_bytes = 0;
  std::uint64_t reply_payloads = 0;

  alignas(64) std::byte buffer[kBytes - 128];  ///< the message's header, then Extents
};

/// The beginning of each worker's part.
struct alignas(64) MailboxHeader {
  std::atomic<std::int32_t> process{0};    ///< of the worker
  std::atomic<std::uint32_t> gone{0};      ///< the worker ends without having left every server
  std::atomic<std::uint32_t> released{0};  ///< servers that will not access this part again
  FutexEvent replied;                      ///< notified by servers
};

/// The memory through which workers and servers of one host exchange messages: a part for each
/// worker, visible to all.
///
/// A part has a MailboxHeader, for each server a FutexEvent (in rank 0's part: wakes its thread)
/// and a MailboxSlot, and then memory for payloads, of which only touched pages cost memory.
class SharedMailbox {
 public:
  /// Collective. Throws UsageError if the ranks do not share memory.
  SharedMailbox(Communicator& world, int shards, std::size_t payload_bytes);

  int workers() const { return static_cast<int>(parts_.size()); }
  int shards() const { return shards_; }

  std::byte* part(int worker) const { return parts_[static_cast<std::size_t>(worker)]; }
  MailboxHeader& header(int worker) const {
    return *reinterpret_cast<MailboxHeader*>(part(worker));
  }
  MailboxSlot& slot(int worker, int shard) const;
  /// Notified when a worker has sent server `shard` a request.
  FutexEvent& requested(int shard) const;

  /// Memory for payloads in this worker's part that is still free, or null.
  std::byte* allocate(std::size_t bytes);
  /// True if [data, data + bytes) lies in `worker`'s part, so that the servers can access it.
  bool contains(int worker, const std::byte* data, std::size_t bytes) const;
  std::size_t part_bytes() const { return part_bytes_; }

 private:
  int shards_;
  int worker_;
  std::size_t part_bytes_;
  Memory memory_;
  std::vector<std::byte*> parts_;
  std::size_t used_;
};

}  // namespace trireme::server
