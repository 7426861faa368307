#pragma once

#include <cstdint>

#include "trireme/comm/communicator.h"
#include "trireme/data/dataset.h"
#include "trireme/model/evaluation.h"
#include "trireme/model/loss.h"
#include "trireme/model/model.h"

namespace trireme {

/// Evaluates `model` on all of `dataset`, each rank on its part. Collective. The set is cut into
/// the tree's virtual workers, so that the sums have the same bits at every world size.
/// `batch`: samples of one forward pass.
EvaluationSums evaluate(Model& model, const Loss& loss, const Dataset& dataset, Communicator& world,
                        const ReductionTree& tree, std::int64_t batch);

}  // namespace trireme
