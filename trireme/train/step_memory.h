#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/config/config.h"
#include "trireme/train/report.h"

namespace trireme {

/// One kind of memory of a training step, in bytes of one rank.
struct MemoryLine {
  std::string kind;                      ///< "parameters"
  std::optional<std::int64_t> measured;  ///< none: what this strategy holds cannot be told
  std::optional<std::int64_t> formula;   ///< none: there is no simple one
  std::string text;                      ///< the formula and its source, or what is meant
};

/// The memory of a step. Of each kind the rank that has the most.
struct StepMemory {
  RunDescription run;
  std::int64_t micro_batch = 0;  ///< samples of the largest one
  std::string letters;           ///< the values of the formulas' letters
  std::vector<MemoryLine> lines;

  /// The line of a kind, or null.
  const MemoryLine* find(const std::string& kind) const;
};

/// Measures the memory of a step of the run that `config` describes. Collective.
///
/// Trains two steps with a learning rate that changes no parameter, and looks at the second one.
/// What the forward pass keeps is what libtorch has allocated in it and not freed when it ends
/// (AllocationMeter); parameters, gradients and optimizer state are the arrays that hold them. One
/// rank of a process at a time. Writes no file and keeps no model. Throws as train() does.
StepMemory measure_memory(const Config& config, Communicator& world);

}  // namespace trireme
