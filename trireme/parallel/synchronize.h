#pragma once

#include "trireme/comm/communicator.h"
#include "trireme/model/model.h"
#include "trireme/tensor/named_tensors.h"

namespace trireme {

/// Collective. Makes every rank's parameters and buffers equal to rank 0's. Those with gaps,
/// permuted or repeated elements (expand()) move into contiguous memory. Throws UsageError, which
/// names the tensor, if one is not dense or does not lie on the CPU, or if a parameter to be
/// trained is not of a floating type; on every rank if the ranks' models differ in names, shapes or
/// types. Deferred weights get memory and their initial values.
void broadcast_from_first_rank(Communicator& world, Model& model);

/// The same but for the parameters that require a gradient, which values_of_first_rank() brings.
void broadcast_fixed_tensors(Communicator& world, Model& model);

/// Collective. Returns the values of one parameter on rank 0: in the parameter itself, or, if it is
/// deferred, in new memory, where rank 0 alone computes them.
at::Tensor values_of_first_rank(Communicator& world, const Model& model,
                                const NamedTensor& parameter);

}  // namespace trireme
