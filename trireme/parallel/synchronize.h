#pragma once

#include "trireme/comm/communicator.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// Moves parameters with gaps or permuted strides into contiguous memory.
void make_contiguous(const NamedTensors& model);

/// Collective. Makes every rank's parameters and buffers equal to rank 0's. Throws UsageError on
/// every rank if the ranks' models differ in names, shapes or types.
void broadcast_from_first_rank(Communicator& world, const NamedTensors& model);

}  // namespace trireme
