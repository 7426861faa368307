#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "trireme/comm/communicator.h"

namespace trireme::shm {

class Segment;

/// What notices that the process of a rank has ended.
enum class WatchedBy : std::uint8_t {
  kLauncher,  ///< the process that started the ranks, by mark_lost() and mark_ended()
  kRanks,     ///< each rank, in a thread that sleeps until then
};

struct Options {
  /// How long a rank waits for a peer that is alive before its call ends in CommError.
  std::chrono::milliseconds timeout = std::chrono::minutes(30);
  /// Address space of the segment. Pages use memory once they are touched. 0: twice the memory of
  /// this machine, or less where a limit of the address space (ulimit -v) leaves less.
  std::size_t bytes = 0;
  WatchedBy watched_by = WatchedBy::kLauncher;
};

/// The memory that the ranks of one host share: a sealed memfd without a name, which disappears
/// with the last process that holds it.
///
///     World world = World::create(4);                  // the launcher; its children inherit fd()
///     auto ranks = World::open(fd).join(2);            // each rank
///
///     World world = World::create(4, {.watched_by = WatchedBy::kRanks});    // or without one:
///     World same = World::open_of(process_of_rank_0, descriptor_of_rank_0);  // the other ranks
///
/// Ranks may also be threads of one process that join one World. Thread-safe. A communicator that
/// was joined keeps the memory mapped and may outlive its World.
class World {
 public:
  /// Throws UsageError for a number of ranks that is not in [1, 256] or if the address space is too
  /// small, and CommError if the system cannot provide the memory.
  static World create(int ranks, Options options = {});

  /// Takes ownership of the descriptor `fd`. Throws UsageError if it is not open, DataError if it
  /// is not the segment of a World of this version.
  static World open(int fd);

  /// Opens the World whose descriptor is `fd` in `process`, which must run as the same user on this
  /// host. Throws UsageError if the process has ended or has no such descriptor, CommError if the
  /// system does not permit it.
  static World open_of(pid_t process, int fd);

  World(World&&) noexcept;
  World& operator=(World&&) noexcept;
  ~World();

  /// The descriptor is close-on-exec; the launcher clears that flag in the children that it starts.
  int fd() const;
  int size() const;

  /// Returns the world communicator of rank `rank`. `timeout` takes the place of Options::timeout
  /// on this rank, in this communicator and those that are split from it. Throws UsageError if it
  /// is called twice, or for a timeout that is not positive. When the communicator is destroyed the
  /// rank has left, and a peer's call that needs it ends in CommError.
  std::unique_ptr<Communicator> join(int rank,
                                     std::optional<std::chrono::milliseconds> timeout = {});

  /// Marks the process of `rank` as lost: every call that waits, now or later, ends in CommError
  /// "rank 2 is lost: killed by signal 9" for why = "killed by signal 9".
  void mark_lost(int rank, std::string_view why);

  /// Marks the process of `rank` as ended in good order: calls that still need it end in CommError,
  /// other calls are not affected, and neither are communicators that it had destroyed.
  void mark_ended(int rank);

 private:
  explicit World(std::shared_ptr<Segment> segment);

  std::shared_ptr<Segment> segment_;
};

}  // namespace trireme::shm
