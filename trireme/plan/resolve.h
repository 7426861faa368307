#pragma once

#include "trireme/config/config.h"
#include "trireme/plan/run_plan.h"

namespace trireme::plan {

/// Returns how `config` trains on `ranks` ranks. Reads no files. Throws UsageError for keys that
/// contradict each other or the number of ranks, and for keys that are set and that this way of
/// training does not use (refuse_unused_keys()).
RunPlan resolve(const Config& config, int ranks);

/// Like resolve(), but accepts keys that are set and not used. For configurations that code has
/// derived from a user's.
RunPlan resolve_derived(const Config& config, int ranks);

}  // namespace trireme::plan
