#include "trireme/comm/nccl/handshake.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "trireme/base/error.h"
#include "trireme/comm/hierarchical/hierarchical.h"
#include "trireme/comm/nccl/link.h"

namespace trireme::nccl {

namespace {

template <std::size_t kRoom>
void write(char (&to)[kRoom], std::string_view text) {
  std::memcpy(to, text.data(), std::min(text.size(), kRoom - 1));
}

bool share_device(const Handshake& a, const Handshake& b) {
  return a.host == b.host && std::strcmp(a.device, b.device) == 0;
}

}  // namespace

Handshake handshake_of(int rank, int device, bool leads) {
  Handshake handshake;
  handshake.host = host_of_this_process();
  handshake.rank = rank;
  try {
    cuda::check(cudaDeviceGetPCIBusId(handshake.device, sizeof(handshake.device), device),
                "cudaDeviceGetPCIBusId");
    if (leads) Link::check(ncclGetUniqueId(&handshake.id), "ncclGetUniqueId");
  } catch (const Error& error) {
    write(handshake.failure, error.what());
  }
  return handshake;
}

void check_handshakes(std::span<const Handshake> handshakes) {
  for (const Handshake& one : handshakes) {
    if (one.failure[0] == '\0') continue;
    throw CommError(fmt::format("nccl: rank {} cannot begin: {}", one.rank, one.failure), one.rank);
  }
  for (std::size_t later = 0; later < handshakes.size(); ++later) {
    for (std::size_t earlier = 0; earlier < later; ++earlier) {
      if (!share_device(handshakes[earlier], handshakes[later])) continue;
      throw UsageError(fmt::format(
          "nccl: each rank must have a CUDA device of its own, ranks {} and {} both have {}; start "
          "as many ranks on a host as it has devices, and let each use the one of its local rank",
          handshakes[earlier].rank, handshakes[later].rank, handshakes[later].device));
    }
  }
}

}  // namespace trireme::nccl
