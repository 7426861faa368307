#pragma once

#include <chrono>
#include <string>

#include "trireme/world/c10d/rendezvous.h"

namespace trireme::c10d {

/// Throws UsageError if something on this host already listens on the port of the rendezvous.
void require_free_port(const Rendezvous& rendezvous);

/// Connects to the master once, trying again until `deadline`, and returns the address of this host
/// by which it is reached. Throws CommError saying who tried to reach what, and what went wrong.
std::string address_towards_master(const Rendezvous& rendezvous,
                                   std::chrono::steady_clock::time_point deadline);

/// Is this address, written in numbers, one that only its own host reaches?
bool is_loopback(const std::string& address);

/// The address of this host by which it reaches `peer`, written in numbers; empty if it does not.
std::string address_towards(const std::string& peer);

}  // namespace trireme::c10d
