#include "trireme/world/c10d/rendezvous.h"

#include <fmt/format.h>

#include "trireme/base/error.h"

namespace trireme::c10d {

std::string endpoint_of(const Rendezvous& rendezvous) {
  const bool is_v6 = rendezvous.master_address.find(':') != std::string::npos;
  const std::string host =
      is_v6 ? "[" + rendezvous.master_address + "]" : rendezvous.master_address;
  return fmt::format("{}:{}", host, rendezvous.master_port);
}

void check(const Rendezvous& rendezvous) {
  if (rendezvous.world_size < 1) {
    throw UsageError(
        fmt::format("connect: the world must have a rank, got {}", rendezvous.world_size));
  }
  if (rendezvous.rank < 0 || rendezvous.rank >= rendezvous.world_size) {
    throw UsageError(fmt::format("connect: rank must be in [0, {}), got {}", rendezvous.world_size,
                                 rendezvous.rank));
  }
  if (rendezvous.master_address.empty()) {
    throw UsageError("connect: the address of rank 0 is empty; set MASTER_ADDR");
  }
  if (rendezvous.master_port < 1 || rendezvous.master_port > 65535) {
    throw UsageError(fmt::format("connect: the port of rank 0 must be in [1, 65535], got {}",
                                 rendezvous.master_port));
  }
  if (rendezvous.timeout.count() < 1) {
    throw UsageError(fmt::format("connect: the timeout must be positive, got {} ms",
                                 rendezvous.timeout.count()));
  }
}

}  // namespace trireme::c10d
