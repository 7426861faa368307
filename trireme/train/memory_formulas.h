#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trireme/config/config.h"
#include "trireme/data/dataset.h"
#include "trireme/kernels/reduction_tree.h"
#include "trireme/model/model.h"
#include "trireme/plan/run_plan.h"

namespace trireme {

/// What a formula says of one kind of memory.
struct MemoryFormula {
  std::int64_t bytes = 0;
  std::string text;  ///< the formula and where it is from: "8 P; ZeRO ..."
};

/// The formulas of a run, of one rank and its largest micro-batch. None: there is no simple one.
struct MemoryFormulas {
  std::optional<MemoryFormula> parameters;
  std::optional<MemoryFormula> gathered;  ///< parameters, for a while
  std::optional<MemoryFormula> gradients;
  std::optional<MemoryFormula> buckets;  ///< gradients, for a while
  std::optional<MemoryFormula> optimizer_state;
  std::optional<MemoryFormula> activations;        ///< of all blocks before the loss
  std::optional<MemoryFormula> layer_activations;  ///< of one layer of a transformer
  std::optional<MemoryFormula> kept_for_loss;      ///< by a LossBlock
  std::optional<MemoryFormula> full_logits;        ///< that a LossBlock never holds
  /// The values of the letters, "s 256 tokens, b 4 samples, ..."; "" if there are none.
  std::string letters;
};

/// What the formulas are for, beside the configuration.
struct MemoryFacts {
  const Model& model;
  const ReductionTree& tree;
  int rank = 0;
  bool holds_parameters = true;  ///< Strategy::holds_parameters()
  const Dataset& train;
  const Batch& micro_batch;  ///< the largest of the rank
  int rows = 1;              ///< of gradients, see RowProgram
  int virtual_workers = 1;   ///< of the rank
};

MemoryFormulas memory_formulas(const Config& config, const plan::RunPlan& plan,
                               const MemoryFacts& facts);

}  // namespace trireme
