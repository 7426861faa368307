#include "trireme/parallel/gradient_norm.h"

#include <algorithm>
#include <cmath>

#include "trireme/kernels/norm.h"

namespace trireme {

void append_block_squares(std::span<const Shard> shards, std::vector<double>& squares) {
  for (const Shard& shard : shards) {
    const Buffer gradient{const_cast<void*>(shard.gradient.front()), shard.values.count,
                          shard.values.dtype};
    for (std::int64_t at = 0; at < gradient.count; at += kBlock) {
      const Buffer block = gradient.slice(at, std::min(kBlock, gradient.count - at));
      squares.push_back(shard.has_gradient ? sum_of_squares(block) : 0.0);
    }
  }
}

double norm_of(std::span<const double> block_squares) {
  double sum = 0;
  for (const double square : block_squares) sum += square;
  return std::sqrt(sum);
}

}  // namespace trireme
