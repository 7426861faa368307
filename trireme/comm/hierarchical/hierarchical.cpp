#include "trireme/comm/hierarchical/hierarchical.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "trireme/base/error.h"
#include "trireme/base/hash.h"
#include "trireme/comm/hierarchical/hosts.h"
#include "trireme/comm/hierarchical/track.h"
#include "trireme/comm/shm/world.h"

namespace trireme {

namespace {

using hosts::Hosts;
using hosts::Track;
using message::Exchange;

/// Memory that the ranks of this host see, under the ranks of the whole communicator.
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

/// A message::Group whose ranks share memory in parts.
class OverHosts final : public message::Group {
 public:
  OverHosts(std::unique_ptr<message::Transport> transport, message::Options options)
      : Group(std::move(transport), options) {}
  OverHosts(std::shared_ptr<message::Hub> hub, std::uint32_t channel, int rank,
            std::vector<int> world_ranks, message::Options options)
      : Group(std::move(hub), channel, rank, std::move(world_ranks), options) {}

  ~OverHosts() override { stop_lanes(); }

  std::string description() const override {
    if (!hosts_) return Group::description();
    return fmt::format("{}, {} ranks on {} hosts that share memory, sums in tree order",
                       hub()->transport().name(), size(), hosts_->count());
  }

  std::vector<std::uint64_t> gather(std::uint64_t word) {
    return gather_words(word, Where::here());
  }

  /// The memory of this host: made by its first rank, opened by the others.
  std::unique_ptr<Communicator> join_host(const Hosts& hosts) {
    // With other hosts about, a rank may be late because it waits for one; then that one is to be
    // named, whose deadline is the earlier one.
    shm::Options inside{.timeout = options().timeout, .watched_by = shm::WatchedBy::kRanks};
    if (hosts.count() > 1) inside.timeout += options().timeout + std::chrono::seconds(10);
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
    const int first = hosts.first_of(hosts.host());
    if (hosts.local() > 0) {
      attempt([&] {
        return shm::World::open_of(static_cast<pid_t>(processes[first]),
                                   static_cast<int>(descriptors[first]));
      });
    }
    const auto opened = gather(world ? 1 : 0);
    if (error) std::rethrow_exception(error);
    if (const auto failed = std::find(opened.begin(), opened.end(), 0u); failed != opened.end()) {
      throw UsageError(
          fmt::format("connect: rank {} could not open the shared memory of its host; its own "
                      "error says why",
                      failed - opened.begin()));
    }
    return world->join(hosts.local());
  }

  void share_memory(std::vector<std::uint64_t> ids, Hosts hosts,
                    std::unique_ptr<Communicator> inside) {
    std::vector<Track> tracks(kTracks);
    const int first = hosts.first_of(hosts.host());
    for (Track& track : tracks) {
      track.inside = inside->split(0);
      track.stage = track.inside->allocate(2 * Track::kHalfBytes);
      for (int local = 0; local < hosts.ranks_of(hosts.host()); ++local) {
        track.world_ranks.push_back(world_ranks()[first + local]);
      }
    }
    for (int host = 0; hosts.carries() && host < hosts.count(); ++host) {
      rail_.push_back(world_ranks()[hosts.first_of(host) + hosts.local()]);
    }
    {
      const std::lock_guard lock(inside_mutex_);
      ids_ = std::move(ids);
      inside_ = std::move(inside);
      tracks_ = std::move(tracks);
      hosts_ = std::move(hosts);
    }
  }

  using Group::end_of_setup;
  using Group::start_lanes;

 private:
  static constexpr int kTracksPerLane = 2;
  static constexpr int kTracks = kTracksPerLane * kLanes;

  void move(const Operation& operation, int lane) override {
    if (!hosts_ || !hosts::goes_by_hosts(operation)) return Group::move(operation, lane);
    std::mutex mutex;
    std::exception_ptr error;  // the first: others follow from it
    const auto attempt = [&](int index) {
      const int track = lane * kTracksPerLane + index;
      const Exchange rail = exchange(track, rail_, hosts_->host());
      try {
        hosts::move_by_hosts(operation, *hosts_, tracks_[track], rail, index, kTracksPerLane);
      } catch (...) {
        {
          const std::lock_guard lock(mutex);
          if (!error) error = std::current_exception();
        }
        end_tracks(lane * kTracksPerLane, kTracksPerLane);
      }
    };
    // Two pieces at a time: one crosses between hosts while the other moves inside.
    std::thread second(attempt, 1);
    attempt(0);
    second.join();
    if (error) std::rethrow_exception(error);
  }

  Memory do_allocate(std::size_t bytes, Where where) override {
    Memory mine = Group::do_allocate(hosts_ ? 0 : bytes, where);
    if (!hosts_) return mine;
    Memory memory;
    std::exception_ptr error;
    try {
      memory = inside_->allocate(bytes, where);
    } catch (const UsageError&) {
      error = std::current_exception();
    }
    const auto refused = gather_words(error ? 1 : 0, where);
    if (error) std::rethrow_exception(error);
    if (const auto who = std::find(refused.begin(), refused.end(), 1u); who != refused.end()) {
      throw UsageError(fmt::format("allocate: the host of rank {} has no room (rank {} of {})",
                                   who - refused.begin(), rank(), size()));
    }
    return Memory(std::make_unique<HostBlock>(std::move(memory), hosts_->first_of(hosts_->host()),
                                              hosts_->ranks_of(hosts_->host())));
  }

  std::unique_ptr<Communicator> do_split(int color, int key, Where where) override {
    if (!hosts_) return Group::do_split(color, key, where);
    Part part = agree_on_part(color, key, where);
    auto inside = inside_->split(color, key, where);
    if (part.ranks.empty()) return nullptr;
    std::vector<std::uint64_t> ids;
    for (const int member : part.ranks) ids.push_back(ids_[member]);
    auto hosts = Hosts::of(ids, part.rank);
    if (hosts && hosts->count() == 1) return inside;
    auto group = std::make_unique<OverHosts>(hub(), part.channel, part.rank,
                                             std::move(part.world_ranks), options());
    group->start_lanes();
    if (hosts && hosts->count() < hosts->ranks()) {
      group->share_memory(std::move(ids), std::move(*hosts), std::move(inside));
    }
    return group;
  }

  void on_end(const std::exception_ptr& error) override {
    end_tracks(0, kTracks);
    const std::lock_guard lock(inside_mutex_);
    if (inside_) inside_->abort(error);
  }

  void end_tracks(int first, int count) {
    // It names nobody: a track counts the ranks of its host only.
    const auto error = std::make_exception_ptr(CommError("this collective has failed"));
    const std::lock_guard lock(inside_mutex_);
    if (tracks_.empty()) return;
    for (int track = first; track < first + count; ++track) tracks_[track].inside->abort(error);
  }

  std::mutex inside_mutex_;
  std::optional<Hosts> hosts_;  // once memory is shared
  std::vector<std::uint64_t> ids_;
  std::unique_ptr<Communicator> inside_;
  std::vector<int> rail_;  // transport ranks that this one exchanges with, one a host
  std::vector<Track> tracks_;
};

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
  auto group = std::make_unique<OverHosts>(std::move(transport), options);
  group->start_lanes();
  std::vector<std::uint64_t> ids = group->gather(host);
  auto hosts = Hosts::of(ids, group->rank());
  if (hosts && hosts->count() < hosts->ranks()) {
    auto inside = group->join_host(*hosts);
    if (hosts->count() == 1) return inside;
    group->share_memory(std::move(ids), std::move(*hosts), std::move(inside));
  }
  group->end_of_setup();
  return group;
}

}  // namespace trireme
