#include "tests/server/zmq_servers.h"

#include "trireme/server/zmq/keys.h"

namespace trireme::test {

ZmqServers::ZmqServers(int shards, bool keys, const Adjust& adjust) : keys_(keys) {
  if (keys) {
    server::write_key_files(folder(), "server", server::new_key_pair());
    server::write_key_files(folder() / "clients", "worker", server::new_key_pair());
  }
  for (int shard = 0; shard < shards; ++shard) {
    server::ZmqServer::Options options{
        .endpoint = "tcp://127.0.0.1:0", .shard = shard, .shards = shards};
    if (keys) {
      options.secret_key = folder() / "server.secret";
      options.clients = folder() / "clients";
    } else {
      options.insecure_loopback = true;
    }
    if (adjust) adjust(options);
    servers_.push_back(std::make_unique<server::ZmqServer>(std::move(options)));
    addresses_.push_back(servers_.back()->endpoint());
  }
}

server::ServersOptions ZmqServers::options(int worker) const {
  server::ServersOptions options{.addresses = addresses_, .worker = worker};
  options.timeout = std::chrono::minutes(2);
  if (keys_) {
    options.secret_key = folder() / "clients" / "worker.secret";
    options.server_keys = {folder() / "server.key"};
  }
  return options;
}

}  // namespace trireme::test
