#pragma once

#include "trireme/comm/communicator.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// Collective. Makes every rank's parameters and buffers equal to rank 0's. Those with gaps,
/// permuted or repeated elements (expand()) move into contiguous memory. Throws UsageError, which
/// names the tensor, if one is not dense or does not lie on the CPU, or if a parameter to be
/// trained is not of a floating type; on every rank if the ranks' models differ in names, shapes or
/// types.
void broadcast_from_first_rank(Communicator& world, const NamedTensors& model);

}  // namespace trireme
