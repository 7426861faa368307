#include "trireme/comm/hierarchical/hierarchical.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <optional>
#include <utility>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/hash.h"
#include "trireme/comm/hierarchical/host_mover.h"
#include "trireme/comm/hierarchical/hosts.h"
#include "trireme/comm/shm/world.h"

namespace trireme {

namespace {

using hosts::HostMover;
using hosts::Hosts;
using message::Group;

// Returns true if a host has several ranks, and nothing if the ranks of a host are not consecutive.
bool share_memory(const std::optional<Hosts>& hosts) {
  return hosts && hosts->count() < hosts->ranks();
}

/// Shared memory of the ranks of this host, addressed by ranks of the whole communicator.
class HostBlock final : public Memory::Block {
 public:
  HostBlock(Memory memory, int first, int ranks)
      : memory_(std::move(memory)), first_(first), ranks_(ranks) {}

  void* data() const override { return memory_.data(); }
  std::size_t bytes() const override { return memory_.bytes(); }
  void* peer(int rank) const override {
    const int local = rank - first_;
    return local >= 0 && local < ranks_ ? memory_.peer(local) : nullptr;
  }

 private:
  Memory memory_;
  int first_;
  int ranks_;
};

/// A group whose ranks share memory host by host.
class OverHosts final : public Communicator {
 public:
  /// `ids[r]` is the id of rank r's host; `inside` connects the ranks of this host. Collective.
  OverHosts(std::unique_ptr<Group> group, std::vector<std::uint64_t> ids, Hosts hosts,
            std::unique_ptr<Communicator> inside)
      : Communicator(group->rank(), group->size()),
        ids_(std::move(ids)),
        group_(std::move(group)),
        mover_(
            std::make_unique<HostMover>(group_->channel(), std::move(hosts), std::move(inside))) {
    group_->move_with(*mover_);
  }

  // The group's threads must end before the mover is destroyed.
  ~OverHosts() override { group_.reset(); }

  std::string description() const override {
    return fmt::format("{}, {} ranks on {} hosts that share memory, sums in tree order",
                       group_->channel().transport().name(), size(), mover_->hosts().count());
  }
  void check() override { group_->check(); }
  void abort(std::exception_ptr error) override { group_->abort(std::move(error)); }

 private:
  Work start(const Operation& operation) override { return group_->start(operation); }
  Traffic own_traffic() const override { return group_->own_traffic(); }

  Memory do_allocate(std::size_t bytes, SourceLocation where) override {
    Operation operation;
    operation.kind = OpKind::kAllocate;
    operation.where = where;
    start(operation).wait();
    Memory memory;
    std::exception_ptr error;
    try {
      memory = mover_->inside().allocate(bytes, where);
    } catch (const UsageError&) {
      error = std::current_exception();
    }
    const auto failed = group_->gather_words(error ? 1 : 0, where);
    if (error) std::rethrow_exception(error);
    if (const auto host = std::ranges::find(failed, 1u); host != failed.end()) {
      throw UsageError(fmt::format("allocate: the host of rank {} has no room (rank {} of {})",
                                   host - failed.begin(), rank(), size()));
    }
    const Hosts& hosts = mover_->hosts();
    return Memory(std::make_unique<HostBlock>(std::move(memory), hosts.first_of(hosts.host()),
                                              hosts.ranks_of(hosts.host())));
  }

  std::unique_ptr<Communicator> do_split(int color, int key, SourceLocation where) override {
    const Group::Part part = group_->agree_on_part(color, key, where);
    auto inside = mover_->inside().split(color, key, where);
    if (part.ranks.empty()) return nullptr;
    std::vector<std::uint64_t> ids;
    for (const int member : part.ranks) ids.push_back(ids_[static_cast<std::size_t>(member)]);
    auto hosts = Hosts::of(ids, part.rank);
    if (hosts && hosts->count() == 1) return inside;
    auto group = group_->make_group(part);
    if (!share_memory(hosts)) return group;
    return std::make_unique<OverHosts>(std::move(group), std::move(ids), std::move(*hosts),
                                       std::move(inside));
  }

  std::vector<std::uint64_t> ids_;
  std::unique_ptr<Group> group_;
  std::unique_ptr<HostMover> mover_;
};

// Returns the shared memory of this host: its first rank creates it, the others open it.
// Collective.
std::unique_ptr<Communicator> join_host(Group& group, const Hosts& hosts) {
  const auto gather = [&](std::uint64_t word) {
    return group.gather_words(word, SourceLocation::current());
  };
  // A rank of this host may be late because it waits for another host. The error must then name the
  // other host, so the deadline between hosts must be the earlier one.
  const std::chrono::milliseconds timeout = group.options().timeout;
  shm::Options inside{.timeout = timeout, .watched_by = shm::WatchedBy::kRanks};
  if (hosts.count() > 1) inside.timeout += timeout + std::chrono::seconds(10);
  std::optional<shm::World> world;
  std::exception_ptr error;
  const auto attempt = [&](auto make) {
    try {
      world.emplace(make());
    } catch (const Error&) {
      error = std::current_exception();
    }
  };
  if (hosts.local() == 0) {
    attempt([&] { return shm::World::create(hosts.ranks_of(hosts.host()), inside); });
  }
  const auto processes = gather(static_cast<std::uint64_t>(getpid()));
  const auto descriptors = gather(world ? static_cast<std::uint64_t>(world->fd()) : 0);
  const auto first = static_cast<std::size_t>(hosts.first_of(hosts.host()));
  if (hosts.local() > 0) {
    attempt([&] {
      return shm::World::open_of(static_cast<pid_t>(processes[first]),
                                 static_cast<int>(descriptors[first]));
    });
  }
  const auto opened = gather(world ? 1 : 0);
  if (error) std::rethrow_exception(error);
  if (const auto failed = std::ranges::find(opened, 0u); failed != opened.end()) {
    throw UsageError(
        fmt::format("connect: rank {} could not open the shared memory of its host; its own "
                    "error says why",
                    failed - opened.begin()));
  }
  return world->join(hosts.local());
}

}  // namespace

std::uint64_t host_of_this_process() {
  std::ifstream boot("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(boot, id);
  std::uint64_t host = fnv1a(id);
  for (const char* name : {"/proc/self/ns/net", "/proc/self/ns/pid", "/proc/self/ns/user"}) {
    struct stat status {};
    if (stat(name, &status) == 0) host = fnv1a(fmt::format("{} {}", name, status.st_ino), host);
  }
  return host;
}

std::unique_ptr<Communicator> hierarchical(std::unique_ptr<message::Transport> transport,
                                           message::Options options, std::uint64_t host) {
  auto group = Group::world(std::move(transport), options);
  std::vector<std::uint64_t> ids = group->gather_words(host, SourceLocation::current());
  auto hosts = Hosts::of(ids, group->rank());
  if (!share_memory(hosts)) {
    group->end_of_setup();
    return group;
  }
  auto inside = join_host(*group, *hosts);
  if (hosts->count() == 1) return inside;
  group->end_of_setup();
  return std::make_unique<OverHosts>(std::move(group), std::move(ids), std::move(*hosts),
                                     std::move(inside));
}

}  // namespace trireme
