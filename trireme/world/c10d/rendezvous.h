#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "trireme/launch/rendezvous/job_secret.h"

namespace trireme::c10d {

/// A rendezvous of the ranks of a world: a store that rank 0 serves (launch/rendezvous/server.h),
/// as in a Kubernetes PyTorchJob or in a hand-written loop, or the c10d TCPStore of torchrun's
/// agent.
struct Rendezvous {
  int rank = 0;
  int world_size = 1;
  std::string master_address = "127.0.0.1";  ///< of rank 0; a name or a number
  int master_port = 29500;

  /// The address at which this rank accepts connections. If empty, it is the one from which this
  /// rank reaches the master, so that no host name has to resolve.
  std::string interface_address;

  /// Another process serves the store (torchrun's agent: TORCHELASTIC_USE_AGENT_STORE=True).
  bool store_is_served = false;

  /// Ranks that name another job, or do not know the secret, are not let in. torchrun's store
  /// checks neither.
  std::string job;
  JobSecret secret;

  /// All ranks are on this host: a store at a loopback address listens there alone.
  bool is_one_host = false;

  /// Separates several starts in one store (torchrun's TORCHELASTIC_RESTART_COUNT).
  std::string attempt;

  /// The time in which all ranks must arrive.
  std::chrono::milliseconds timeout = std::chrono::minutes(5);

  /// Gets what a user should know while this rank waits: who has not come, who was refused. join()
  /// calls it on its own thread, first after `first_notice`, then after twice that, and so on.
  std::function<void(const std::string&)> on_notice;
  std::chrono::milliseconds first_notice = std::chrono::seconds(5);
};

/// "127.0.0.1:29500", "[::1]:29500".
std::string endpoint_of(const Rendezvous& rendezvous);

/// Throws UsageError unless rank, world size, port and timeout are in their ranges.
void check(const Rendezvous& rendezvous);

}  // namespace trireme::c10d
