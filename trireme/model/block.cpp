#include "trireme/model/block.h"

#include <ATen/ATen.h>

namespace trireme {

void Block::seed(std::uint64_t seed) {
  at::manual_seed(seed);
}

}  // namespace trireme
