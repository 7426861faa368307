#pragma once

#include "trireme/comm/communicator.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// Gives parameters with gaps or permuted strides a contiguous home.
void make_contiguous(const NamedTensors& model);

/// Collective. Every rank's parameters and buffers become rank 0's. Throws UsageError on every rank
/// if the ranks' models differ in names, shapes or types.
void broadcast_from_first_rank(Communicator& world, const NamedTensors& model);

}  // namespace trireme
