#pragma once

#include <cstdint>

#include "trireme/comm/communicator.h"
#include "trireme/data/dataset.h"
#include "trireme/model/evaluation.h"
#include "trireme/model/loss.h"
#include "trireme/model/model.h"
#include "trireme/train/report.h"
#include "trireme/train/trainer.h"

namespace trireme {

/// Evaluates `model` on all of `dataset`, each rank on its part. Collective. The set is cut into
/// the tree's virtual workers, so that the sums have the same bits on any number of ranks.
/// `batch`: samples of one forward pass. The model is in training mode afterwards.
EvaluationSums evaluate(Model& model, const Loss& loss, const Dataset& dataset, Communicator& world,
                        const ReductionTree& tree, std::int64_t batch);

/// Evaluates the model of `trainer`, which must have evaluation data, after the steps that are
/// done. Collective over the trainer's SavingGroup; other ranks must not call it.
EvaluationReport evaluate(Trainer& trainer);

}  // namespace trireme
