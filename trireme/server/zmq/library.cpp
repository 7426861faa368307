#include "trireme/server/zmq/library.h"

#include <fmt/format.h>
#include <zmq.h>

namespace trireme::server {

std::string zmq_library() {
  int major = 0;
  int minor = 0;
  int patch = 0;
  zmq_version(&major, &minor, &patch);
  return fmt::format("ZeroMQ {}.{}.{} with{} CURVE", major, minor, patch,
                     zmq_has("curve") == 1 ? "" : "out");
}

}  // namespace trireme::server
