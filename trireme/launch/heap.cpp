#include "trireme/launch/heap.h"

#include <malloc.h>

namespace trireme {

void keep_freed_memory() {
#ifdef __GLIBC__
  constexpr int kGibibyte = 1 << 30;
  // Larger allocations are data sets and not tensors of a step.
  ::mallopt(M_MMAP_THRESHOLD, kGibibyte);
  ::mallopt(M_TRIM_THRESHOLD, kGibibyte);
#endif
}

}  // namespace trireme
