#pragma once

#include <hwy/targets.h>

#include <cstdint>

namespace trireme {

/// Calls `body` once for each instruction set of this machine, with the kernels made to use it.
template <class Body>
void on_every_instruction_set(Body body) {
  for (std::int64_t rest = hwy::SupportedTargets(); rest != 0; rest &= rest - 1) {
    hwy::GetChosenTarget().Update(rest & -rest);
    body();
  }
  hwy::GetChosenTarget().DeInit();
}

}  // namespace trireme
