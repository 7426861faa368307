#pragma once

#include <string>
#include <vector>

namespace trireme {

/// How processes of this host reach it by TCP.
struct LocalNetwork {
  std::string host_name;
  std::vector<std::string> addresses;  ///< that the host's name resolves to, as numbers
  bool only_loopback = false;          ///< all of them are of this host only: 127.0.1.1
  std::string name_trouble;            ///< why the name does not resolve; empty if it does
  std::string loopback_trouble;        ///< why 127.0.0.1 cannot be reached; empty if it can
};

/// Resolves the name of this host and connects to a port of its own on 127.0.0.1.
LocalNetwork inspect_local_network();

}  // namespace trireme
