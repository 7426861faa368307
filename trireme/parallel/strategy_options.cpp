#include "trireme/parallel/strategy_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "trireme/base/error.h"

namespace trireme {

ReductionTree tree_of(const StrategyOptions& options, int ranks) {
  const int workers = options.virtual_workers == 0 ? ranks : options.virtual_workers;
  if (options.shares.empty() || workers < ranks) return ReductionTree(workers, ranks);
  const bool valid = std::ranges::all_of(
      options.shares, [](double share) { return share > 0 && std::isfinite(share); });
  if (!valid || options.shares.size() != static_cast<std::size_t>(ranks)) {
    throw UsageError(
        fmt::format("strategy: shares must be one number above 0 for each of the {} ranks, got {}",
                    ranks, options.shares));
  }
  return ReductionTree(partition_in_proportion(workers, options.shares));
}

void require_no_codec(const StrategyOptions& options, std::string_view strategy,
                      std::string_view reason) {
  if (options.compression.codec == "none") return;
  throw UsageError(
      fmt::format("strategy {}: compression must be \"none\", got \"{}\"; {}. Use strategy "
                  "replicated to compress gradients",
                  strategy, options.compression.codec, reason));
}

}  // namespace trireme
