#pragma once

#include <optional>
#include <string>

#include "trireme/launch/environment.h"

namespace trireme {

/// How many threads a rank computes with, and what has decided it. docs/threads.md has the rule.
struct ThreadChoice {
  int threads = 1;
  std::string reason;  ///< "OMP_NUM_THREADS = 4"
};

/// Returns what the environment says of a rank that may use `cores` cores: OMP_NUM_THREADS, of a
/// list its first number; else, if the ranks are the tasks of a Slurm step, SLURM_CPUS_PER_TASK,
/// but no more than `cores`. Variables that are set to nothing count as not set. Throws UsageError,
/// which names the variable, if it is no number of at least 1.
std::optional<ThreadChoice> threads_of_environment(const RankEnvironment& environment, int cores,
                                                   const Lookup& lookup = process_environment);

}  // namespace trireme
