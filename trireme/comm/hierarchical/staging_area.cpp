#include "trireme/comm/hierarchical/staging_area.h"

#include "trireme/base/error.h"

namespace trireme::hosts {

void StagingArea::barrier() {
  try {
    inside->barrier();
  } catch (const CommError& error) {
    const int lost = error.lost_rank();
    throw CommError(error.what(), lost < 0 ? -1 : world_ranks[lost]);
  }
}

}  // namespace trireme::hosts
