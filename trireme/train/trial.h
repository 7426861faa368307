#pragma once

#include <cstdint>

#include "trireme/base/partition.h"
#include "trireme/comm/communicator.h"
#include "trireme/data/dataset.h"
#include "trireme/data/sampler.h"
#include "trireme/kernels/reduction_tree.h"
#include "trireme/model/loss.h"
#include "trireme/model/model.h"

namespace trireme {

/// A run tries its forward passes before its first step, so that a model which does not take some
/// number of samples fails then, and not at the end of an epoch. The passes are made in evaluation
/// mode and change nothing; the model is in training mode afterwards. Both functions throw
/// UsageError or DataError, which names the pass. `together`: ranks that call it at once and make
/// the same number of passes, as a strategy may need that gathers parameters; null: this rank
/// alone.

/// One pass of each size that a micro-batch of the virtual workers `workers` has.
void try_training(Model& model, const Loss& loss, const Dataset& train, const Sampler& sampler,
                  Range workers, Communicator* together = nullptr);

/// One pass of each size that evaluate() makes with the same arguments on rank `rank` of `tree`.
void try_evaluation(Model& model, const Loss& loss, const Dataset& dataset,
                    const ReductionTree& tree, int rank, std::int64_t batch,
                    Communicator* together = nullptr);

}  // namespace trireme
