#include "trireme/parallel/strategy.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "trireme/base/error.h"

namespace trireme {

ReductionTree tree_of(const StrategyOptions& options, int ranks) {
  const int leaves = options.virtual_workers == 0 ? ranks : options.virtual_workers;
  if (options.shares.empty() || leaves < ranks) return ReductionTree(leaves, ranks);
  const bool are_good = std::ranges::all_of(
      options.shares, [](double share) { return share > 0 && std::isfinite(share); });
  if (!are_good || options.shares.size() != static_cast<std::size_t>(ranks)) {
    throw UsageError(
        fmt::format("strategy: shares must be one number above 0 for each of the {} ranks, got {}",
                    ranks, options.shares));
  }
  return ReductionTree(partition_in_proportion(leaves, options.shares));
}

std::unique_ptr<Strategy> make_strategy(std::string_view name, Communicator& world,
                                        StrategyOptions options) {
  if (name == "replicated") return replicated(world, options);
  if (name == "shared") return shared(world, options);
  throw UsageError(fmt::format("strategy must be \"replicated\" or \"shared\", got \"{}\"", name));
}

}  // namespace trireme
