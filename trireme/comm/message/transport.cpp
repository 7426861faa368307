#include "trireme/comm/message/transport.h"

#include <fmt/format.h>

#include "trireme/base/error.h"
#include "trireme/base/version.h"

namespace trireme::message {

std::string greeting(int world_size) {
  return fmt::format("trireme {}, frames of {} bytes, {} ranks", version(), sizeof(Frame),
                     world_size);
}

void require_same_greeting(const std::string& own, int rank, const std::string& theirs) {
  if (own == theirs) return;
  throw UsageError(
      fmt::format("connect: rank {} is \"{}\", this rank is \"{}\"; start the same program with "
                  "the same number of ranks everywhere",
                  rank, theirs, own));
}

}  // namespace trireme::message
