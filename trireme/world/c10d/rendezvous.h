#pragma once

#include <chrono>
#include <string>

namespace trireme::c10d {

/// Where the ranks of a world find each other: a c10d TCPStore that rank 0 serves, as the ranks of
/// `torchrun`, of a Kubernetes PyTorchJob or of a hand-written loop expect it.
struct Rendezvous {
  int rank = 0;
  int world_size = 1;
  std::string master_address = "127.0.0.1";  ///< of rank 0; a name or a number
  int master_port = 29500;

  /// The address on which this rank takes the connections of the others; empty: the one by which it
  /// reaches the master, so no host name has to resolve.
  std::string interface_address;

  /// The store is served by somebody else (torchrun's agent: TORCHELASTIC_USE_AGENT_STORE=True).
  bool store_is_served = false;

  /// Keeps starts apart that meet in one store (torchrun's TORCHELASTIC_RESTART_COUNT).
  std::string attempt;

  /// For all ranks to come, from the first try on.
  std::chrono::milliseconds timeout = std::chrono::minutes(5);
};

/// "127.0.0.1:29500", "[::1]:29500".
std::string endpoint_of(const Rendezvous& rendezvous);

/// Throws UsageError unless rank, world size, port and timeout make sense.
void check(const Rendezvous& rendezvous);

}  // namespace trireme::c10d
