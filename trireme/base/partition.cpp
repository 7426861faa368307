#include "trireme/base/partition.h"

#include <cstddef>

namespace trireme {

std::vector<Range> partition_in_proportion(std::int64_t count, std::span<const double> weights) {
  std::vector<std::int64_t> sizes(weights.size(), 1);
  const auto load_with_one_more = [&](std::size_t part) {
    return static_cast<double>(sizes[part] + 1) / weights[part];
  };
  for (auto left = count - static_cast<std::int64_t>(sizes.size()); left > 0; --left) {
    std::size_t least = 0;
    for (std::size_t part = 1; part < sizes.size(); ++part) {
      if (load_with_one_more(part) < load_with_one_more(least)) least = part;
    }
    ++sizes[least];
  }
  std::vector<Range> parts;
  std::int64_t begin = 0;
  for (const std::int64_t size : sizes) {
    parts.push_back({begin, begin + size});
    begin += size;
  }
  return parts;
}

}  // namespace trireme
