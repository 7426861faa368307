#include "trireme/checkpoint/coverage.h"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/base/error.h"
#include "trireme/base/runs.h"

namespace trireme {

namespace {

// Each is compared with every other one. 256 experts over 8 tensor ranks make 2048.
constexpr std::size_t kMaxDifferentCuts = 4096;

[[noreturn]] void refuse(const std::string& tensor, const std::string& reason) {
  throw UsageError(fmt::format("tensor \"{}\": {}", tensor, reason));
}

// Regions with equal cuts, in the order of their ranges.
using Group = std::span<const Region* const>;

std::vector<Group> groups_of(const std::vector<const Region*>& sorted) {
  std::vector<Group> groups;
  for (auto begin = sorted.begin(); begin != sorted.end();) {
    const auto end = std::find_if(begin, sorted.end(),
                                  [&](const Region* r) { return r->cuts() != (*begin)->cuts(); });
    groups.emplace_back(begin, end);
    begin = end;
  }
  return groups;
}

void require_gapless(const std::string& tensor, Group group) {
  const Region cut(group.front()->full_shape(), group.front()->cuts());
  const auto require_at = [&](std::int64_t end, std::int64_t begin) {
    if (begin == end) return;
    if (begin < end) {
      refuse(tensor, fmt::format("chunks overlap: elements {} to {}{}{} lie in two of them", begin,
                                 end, cut.is_whole() ? "" : " of ", to_string(cut)));
    }
    refuse(tensor, fmt::format("no chunk has elements {} to {} of {}{}{}", end, begin, cut.count(),
                               cut.is_whole() ? "" : " of ", to_string(cut)));
  };
  std::int64_t end = 0;
  for (const Region* region : group) {
    require_at(end, region->range().begin);
    end = region->range().end;
  }
  require_at(end, cut.count());
}

void require_disjoint(const std::string& tensor, const std::vector<Group>& groups) {
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const Region a(groups[i].front()->full_shape(), groups[i].front()->cuts());
    for (std::size_t j = 0; j < i; ++j) {
      const Region b(a.full_shape(), groups[j].front()->cuts());
      const std::int64_t common = common_count(a, b);
      if (common == 0) continue;
      refuse(tensor, fmt::format("chunks overlap: {} and {} have {} elements in common",
                                 to_string(b), to_string(a), common));
    }
  }
}

}  // namespace

void require_exact_cover(const std::string& tensor, const TensorShape& shape,
                         std::vector<const Region*> regions) {
  const std::int64_t elements = elements_of(shape);
  for (const Region* region : regions) {
    if (region->full_shape() != shape) refuse(tensor, "a chunk is of a tensor of another shape");
    if (region->count() == 0) refuse(tensor, "a chunk is empty");
  }
  std::ranges::sort(regions, [](const Region* a, const Region* b) { return comes_before(*a, *b); });
  const std::vector<Group> groups = groups_of(regions);
  if (groups.size() > kMaxDifferentCuts) {
    refuse(tensor, fmt::format("it must be cut in at most {} ways, got {}", kMaxDifferentCuts,
                               groups.size()));
  }
  for (const Group& group : groups) require_gapless(tensor, group);
  require_disjoint(tensor, groups);
  // Groups are disjoint and each is gapless, so that this sum cannot overflow.
  std::int64_t covered = 0;
  for (const Group& group : groups) {
    covered += Region(shape, group.front()->cuts()).count();
  }
  if (covered != elements) {
    refuse(tensor, fmt::format("its chunks hold {} of {} elements", covered, elements));
  }
}

}  // namespace trireme
