#include "trireme/comm/shm/world.h"

#include <fmt/format.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <numeric>

#include "trireme/base/error.h"
#include "trireme/comm/shm/group.h"
#include "trireme/comm/shm/segment.h"

namespace trireme::shm {

namespace {

void check_rank(int rank, int size) {
  if (rank >= 0 && rank < size) return;
  throw UsageError(
      fmt::format("shared memory: a rank of this world is in [0, {}), got {}", size, rank));
}

}  // namespace

World World::create(int ranks, Options options) {
  return World(Segment::create(ranks, options));
}

World World::open(int fd) {
  return World(Segment::open(fd));
}

World World::open_of(pid_t process, int fd) {
  const std::string path = fmt::format("/proc/{}/fd/{}", process, fd);
  const int own = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (own >= 0) return open(own);
  if (errno == ENOENT) {
    throw UsageError(
        fmt::format("shared memory: process {} must be running on this host and hold a world as "
                    "descriptor {}, but {} does not exist",
                    process, fd, path));
  }
  throw CommError(
      fmt::format("shared memory: cannot open {}: {}; the ranks of one host must run as the same "
                  "user and in the same container, or be started by trireme run",
                  path, std::strerror(errno)));
}

World::World(std::shared_ptr<Segment> segment) : segment_(std::move(segment)) {}
World::World(World&&) noexcept = default;
World& World::operator=(World&&) noexcept = default;
World::~World() = default;

int World::fd() const {
  return segment_->fd();
}

int World::size() const {
  return segment_->header().ranks;
}

std::unique_ptr<Communicator> World::join(int rank,
                                          std::optional<std::chrono::milliseconds> timeout) {
  check_rank(rank, size());
  if (timeout && timeout->count() <= 0) {
    throw UsageError(
        fmt::format("shared memory: the timeout must be positive, got {} ms", timeout->count()));
  }
  if (segment_->control(rank).joined.exchange(1) != 0) {
    throw UsageError(fmt::format("shared memory: rank {} has joined already", rank));
  }
  segment_->control(rank).process.store(getpid());
  std::vector<int> world_ranks(size());
  std::iota(world_ranks.begin(), world_ranks.end(), 0);
  return std::make_unique<Group>(std::make_shared<Member>(segment_, rank, timeout),
                                 segment_->world_area(), rank, std::move(world_ranks), false);
}

void World::mark_ended(int rank) {
  check_rank(rank, size());
  segment_->mark_ended(rank);
}

void World::mark_lost(int rank, std::string_view why) {
  check_rank(rank, size());
  segment_->mark_lost(rank, why);
}

}  // namespace trireme::shm
