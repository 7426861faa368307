#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/formats/temporary_folder.h"
#include "trireme/server/zmq/connect_servers.h"
#include "trireme/server/zmq/zmq_server.h"

namespace trireme::test {

/// Servers on free ports of the loopback device, with or without keys, in a folder of their own
/// that is removed with them.
class ZmqServers {
 public:
  using Adjust = std::function<void(server::ZmqServer::Options& options)>;

  ZmqServers(int shards, bool keys, const Adjust& adjust = {});

  /// With which a worker connects to them all.
  server::ServersOptions options(int worker) const;

  server::ZmqServer& operator[](int shard) { return *servers_[static_cast<std::size_t>(shard)]; }
  const std::filesystem::path& folder() const { return folder_.path(); }
  void stop(int shard) { servers_[static_cast<std::size_t>(shard)].reset(); }

 private:
  TemporaryFolder folder_;
  bool keys_;
  std::vector<std::unique_ptr<server::ZmqServer>> servers_;
  std::vector<std::string> addresses_;
};

}  // namespace trireme::test
