#include "trireme/launch/core_share.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <numeric>
#include <set>
#include <sstream>
#include <string>

#include "trireme/base/partition.h"
#include "trireme/comm/hierarchical/hierarchical.h"
#include "trireme/comm/objects.h"
#include "trireme/launch/machine.h"

namespace trireme {

namespace {

std::string to_text(const RankCores& rank) {
  return fmt::format("{} {} {}", rank.host, rank.quota, fmt::join(rank.cores, " "));
}

RankCores of_text(const std::string& text) {
  std::istringstream in(text);
  RankCores rank;
  in >> rank.host >> rank.quota;
  rank.cores.assign(std::istream_iterator<int>(in), {});
  return rank;
}

// Ranks of one host, and the place of one of them.
struct Mates {
  std::vector<const RankCores*> all;
  std::size_t place = 0;

  const RankCores& own() const { return *all[place]; }

  // How many ranks may use each core.
  std::map<int, int> users() const {
    std::map<int, int> count;
    for (const RankCores* mate : all) {
      for (const int core : mate->cores) ++count[core];
    }
    return count;
  }

  // The smallest quota, or 0: that of a container is for all its ranks together.
  int quota() const {
    int least = 0;
    for (const RankCores* mate : all) {
      if (mate->quota > 0) least = least == 0 ? mate->quota : std::min(least, mate->quota);
    }
    return least;
  }
};

// Parts of cores that `count` ranks may all use, and no others.
void take_part(CoreShare& share, const std::vector<int>& cores, std::int64_t count,
               std::int64_t place) {
  const auto there = std::ssize(cores);
  share.is_own = count <= there;
  if (!share.is_own) {
    share.cores = {cores[static_cast<std::size_t>(place % there)]};
    return;
  }
  const Range part = partition(there, count, place);
  share.cores = {cores.begin() + part.begin, cores.begin() + part.end};
  share.threads = static_cast<int>(there / count);
}

CoreShare share_of(const Mates& mates) {
  const std::vector<int>& cores = mates.own().cores;
  const std::map<int, int> users = mates.users();
  const auto ranks = static_cast<int>(mates.all.size());
  CoreShare share{.ranks_of_host = ranks, .cores_of_host = static_cast<int>(users.size())};

  const auto is_alike = [&](const RankCores* mate) { return mate->cores == cores; };
  const auto alike = std::ranges::count_if(mates.all, is_alike);
  const auto place = std::count_if(
      mates.all.begin(), mates.all.begin() + static_cast<std::ptrdiff_t>(mates.place), is_alike);
  if (std::ranges::all_of(cores, [&](int core) { return users.at(core) == alike; })) {
    take_part(share, cores, alike, place);
  } else {
    share.cores = cores;
    share.is_own = false;
    const double part = std::accumulate(cores.begin(), cores.end(), 0.0, [&](double sum, int core) {
      return sum + 1.0 / users.at(core);
    });
    share.threads = std::max(1, static_cast<int>(part + 1e-9));
  }
  if (const int quota = mates.quota(); quota > 0) {
    share.threads = std::clamp(quota / ranks, 1, share.threads);
    share.cores_of_host = std::min(share.cores_of_host, quota);
  }
  return share;
}

}  // namespace

RankCores cores_of_this_process() {
  RankCores own{host_of_this_process(), cores_of_affinity(), limits_of_cgroups().cores};
  if (own.cores.empty()) {
    own.cores.resize(static_cast<std::size_t>(usable_cores()));
    std::iota(own.cores.begin(), own.cores.end(), 0);
  }
  return own;
}

CoreShare share_of(std::span<const RankCores> ranks, int rank) {
  Mates mates;
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    if (ranks[r].host != ranks[static_cast<std::size_t>(rank)].host) continue;
    if (r == static_cast<std::size_t>(rank)) mates.place = mates.all.size();
    mates.all.push_back(&ranks[r]);
  }
  return share_of(mates);
}

CoreShare share_of(int ranks, int local_rank) {
  return share_of(std::vector(static_cast<std::size_t>(ranks), cores_of_this_process()),
                  local_rank);
}

CoreShare share_cores(Communicator& world) {
  std::vector<RankCores> ranks;
  for (const std::string& text : all_gather_objects(world, to_text(cores_of_this_process()))) {
    ranks.push_back(of_text(text));
  }
  return share_of(ranks, world.rank());
}

}  // namespace trireme
