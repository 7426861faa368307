#pragma once

#include <chrono>
#include <string>

#include "trireme/world/c10d/rendezvous.h"

namespace trireme::c10d {

/// Connects to the master, retrying until `deadline`, and returns the address of this host on that
/// connection. Throws a CommError that names both ends and the reason.
std::string address_towards_master(const Rendezvous& rendezvous,
                                   std::chrono::steady_clock::time_point deadline);

/// Returns true if this numeric address can be reached from its own host only.
bool is_loopback(const std::string& address);

/// Returns the numeric address from which this host reaches `peer`, or an empty text if it does
/// not.
std::string address_towards(const std::string& peer);

}  // namespace trireme::c10d
