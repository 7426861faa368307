#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace trireme::hosts {

/// The hosts of the ranks. The ranks of a host are consecutive.
class Hosts {
 public:
  /// `ids[r]` is the id of rank r's host. Returns nothing if the ranks of a host are not
  /// consecutive.
  static std::optional<Hosts> of(std::span<const std::uint64_t> ids, int rank) {
    std::vector<int> first;
    std::vector<std::uint64_t> seen;
    for (std::size_t r = 0; r < ids.size(); ++r) {
      if (!seen.empty() && seen.back() == ids[r]) continue;
      if (std::find(seen.begin(), seen.end(), ids[r]) != seen.end()) return std::nullopt;
      seen.push_back(ids[r]);
      first.push_back(static_cast<int>(r));
    }
    first.push_back(static_cast<int>(ids.size()));
    return Hosts(std::move(first), rank);
  }

  int count() const { return static_cast<int>(first_.size()) - 1; }
  int ranks() const { return first_.back(); }
  int first_of(int host) const { return first_[host]; }
  int ranks_of(int host) const { return first_[host + 1] - first_[host]; }
  int host_of(int rank) const {
    return static_cast<int>(std::upper_bound(first_.begin(), first_.end(), rank) - first_.begin()) -
           1;
  }
  int local_of(int rank) const { return rank - first_[host_of(rank)]; }

  /// The host of this rank, and its number on the host.
  int host() const { return host_; }
  int local() const { return local_; }

  /// Ranks 0 .. rails() - 1 of every host are its leaders. Leader l exchanges data with the l-th
  /// ranks of the other hosts, for local ranks l, l + rails(), ...
  int rails() const { return rails_; }
  bool is_leader() const { return local_ < rails_; }

 private:
  Hosts(std::vector<int> first, int rank) : first_(std::move(first)) {
    host_ = host_of(rank);
    local_ = local_of(rank);
    rails_ = ranks_of(0);
    for (int host = 1; host < count(); ++host) rails_ = std::min(rails_, ranks_of(host));
  }

  std::vector<int> first_;  // rank of each host, and the number of ranks
  int host_ = 0;
  int local_ = 0;
  int rails_ = 0;
};

}  // namespace trireme::hosts
