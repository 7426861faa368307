#include "trireme/comm/shm/segment.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>
#include <fstream>

#include "trireme/base/error.h"
#include "trireme/base/system_error.h"

namespace trireme::shm {

namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

std::uint64_t front_bytes(int ranks) {
  return round_up(sizeof(WorldHeader) + ranks * sizeof(RankControl), kPageBytes);
}

std::uint64_t arenas_begin(int ranks) {
  return round_up(front_bytes(ranks) + GroupArea::bytes(ranks), kHugePageBytes);
}

// Of this process.
std::size_t mapped_bytes() {
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

// Pages take memory once they are touched, but a limit of the address space (ulimit -v) counts them
// at once, twice in a rank that the launcher has forked: the ranks get a quarter of what is left.
std::size_t default_bytes() {
  const std::size_t twice_the_memory = 2 * static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
                                       static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return twice_the_memory;
  const std::size_t left = limit.rlim_cur - std::min<std::size_t>(limit.rlim_cur, mapped_bytes());
  return std::min(twice_the_memory, left / 4);
}

[[noreturn]] void refuse(const char* call) {
  throw UsageError(fmt::format("shared memory: {} failed: {}", call, memory_file_reason(errno)));
}

[[noreturn]] void refuse_mapping(std::size_t bytes) {
  const int error = errno;
  rlimit limit{};
  const bool is_limited =
      getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && error == ENOMEM;
  throw UsageError(fmt::format(
      "shared memory: {} MiB of address space could not be mapped: {}{}", bytes >> 20,
      std::strerror(error),
      is_limited ? fmt::format("; this process may have {} MiB and has {} (`ulimit -v` shows and "
                               "raises the limit)",
                               limit.rlim_cur >> 20, mapped_bytes() >> 20)
                 : ""));
}

[[noreturn]] void refuse_fd(int fd, std::string_view reason) {
  throw DataError(
      fmt::format("shared memory: descriptor {} must be the segment of a world: {}", fd, reason));
}

}  // namespace

std::shared_ptr<Segment> Segment::create(int ranks, const Options& options) {
  if (ranks < 1 || ranks > kMaxRanks) {
    throw UsageError(
        fmt::format("shared memory: a world has 1 to {} ranks, got {}", kMaxRanks, ranks));
  }
  const std::size_t wanted = options.bytes > 0 ? options.bytes : default_bytes();
  const std::uint64_t arena =
      std::max<std::uint64_t>(round_up(wanted / ranks, kHugePageBytes), 8 * kHugePageBytes);
  const std::uint64_t bytes = arenas_begin(ranks) + arena * ranks;
  const int fd = memfd_create("trireme", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) refuse("memfd_create");
  // The seal is set before another process can open it, so that no rank can shrink it while others
  // use it.
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0 || fcntl(fd, F_ADD_SEALS, kSeals) != 0) {
    close(fd);
    refuse("ftruncate");
  }
  auto segment = std::make_shared<Segment>(fd, bytes);
  WorldHeader& header = segment->header();
  header.version = kVersion;
  header.ranks = ranks;
  header.bytes = bytes;
  header.timeout_ms = options.timeout.count();
  header.ranks_watch = options.watched_by == WatchedBy::kRanks ? 1 : 0;
  header.magic = kMagic;
  madvise(segment->base_ + arenas_begin(ranks), arena * ranks, MADV_HUGEPAGE);
  return segment;
}

std::shared_ptr<Segment> Segment::open(int fd) {
  struct stat status {};
  if (fstat(fd, &status) != 0) {
    throw UsageError(fmt::format("shared memory: descriptor {} must be that of a world: {}", fd,
                                 std::strerror(errno)));
  }
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) refuse_fd(fd, "it is not a sealed memfd");
  const auto bytes = static_cast<std::size_t>(status.st_size);
  if (bytes < sizeof(WorldHeader)) refuse_fd(fd, "it is too short");
  auto segment = std::make_shared<Segment>(fd, bytes);
  const WorldHeader& header = segment->header();
  const bool ours = header.magic == kMagic;
  const bool whole = ours && header.version == kVersion && header.bytes == bytes &&
                     header.ranks >= 1 && header.ranks <= kMaxRanks && header.timeout_ms >= 0 &&
                     arenas_begin(header.ranks) < bytes;
  if (!whole) {
    const auto version = header.version;
    segment->fd_ = -1;  // the caller keeps its descriptor
    if (ours && version != kVersion) {
      refuse_fd(fd, fmt::format("it has version {}, wanted {}", version, kVersion));
    }
    refuse_fd(fd, "it holds something else");
  }
  const std::uint64_t arenas = arenas_begin(header.ranks);
  madvise(segment->base_ + arenas, bytes - arenas, MADV_HUGEPAGE);
  return segment;
}

Segment::Segment(int fd, std::size_t bytes) : fd_(-1), bytes_(bytes) {
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (base == MAP_FAILED) refuse_mapping(bytes);
  fd_ = fd;
  base_ = static_cast<char*>(base);
  // The core file of one rank must not contain the memory of all ranks.
  madvise(base_, bytes, MADV_DONTDUMP);
}

Segment::~Segment() {
  munmap(base_, bytes_);
  if (fd_ >= 0) close(fd_);
}

std::uint64_t Segment::world_area() const {
  return front_bytes(header().ranks);
}

std::uint64_t Segment::arena(int rank) const {
  return arenas_begin(header().ranks) + rank * arena_bytes();
}

std::uint64_t Segment::arena_bytes() const {
  return (bytes_ - arenas_begin(header().ranks)) / header().ranks;
}

std::uint64_t Segment::offset_of(const void* data, std::size_t bytes) const {
  const auto at = reinterpret_cast<std::uintptr_t>(data);
  const auto base = reinterpret_cast<std::uintptr_t>(base_);
  return at >= base && at - base <= bytes_ && bytes <= bytes_ - (at - base) ? at - base : kStaged;
}

void Segment::discard(std::uint64_t offset, std::size_t bytes) {
  const auto at = static_cast<off_t>(offset);
  if (fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, static_cast<off_t>(bytes))) {
    std::memset(base_ + offset, 0, bytes);
  }
}

void Segment::mark_lost(int rank, std::string_view why) {
  RankControl& lost = control(rank);
  Life expected = Life::kHere;
  if (lost.life.compare_exchange_strong(expected, Life::kBeingMarked)) {
    const std::size_t length = std::min(why.size(), sizeof(lost.why) - 1);
    std::memcpy(lost.why, why.data(), length);
    lost.why[length] = '\0';
    lost.life.store(Life::kLost);
  }
  wake_all();
}

// One atomic step, because the process that marks may be killed at any time.
void Segment::mark(int rank, Life life) {
  Life expected = Life::kHere;
  control(rank).life.compare_exchange_strong(expected, life);
  wake_all();
}

std::string_view Segment::why_lost(int rank) const {
  const RankControl& lost = control(rank);
  return lost.life.load() == Life::kVanished ? "its process has ended" : lost.why;
}

void Segment::wake_all() {
  for (int peer = 0; peer < header().ranks; ++peer) ring(control(peer).doorbell);
}

// FUTEX_PRIVATE is not set, because the ranks are different processes.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value, int milliseconds) {
  const timespec limit{milliseconds / 1000, milliseconds % 1000 * 1'000'000L};
  syscall(SYS_futex, &word, FUTEX_WAIT, value, &limit, nullptr, 0);
}

void ring(std::atomic<std::uint32_t>& word) {
  word.fetch_add(1);
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace trireme::shm
