#pragma once

#include "trireme/comm/operation.h"
#include "trireme/world/c10d/process_group.h"

namespace trireme::c10d {

/// Starts Gloo's own collective for the operation; null if Gloo has none: reduce_scatter, gather
/// and scatter, pieces of different sizes, reductions of f16 (which Gloo rounds after each
/// addition) and bf16, and of virtual workers. The operation's buffers must outlive it.
GlooWork begin_native(GlooGroup& group, const Operation& operation);

/// Must be called once it has succeeded.
void finish_native(const Operation& operation);

}  // namespace trireme::c10d
