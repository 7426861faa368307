#include "trireme/server/zmq/zmq_server.h"

#include <fmt/format.h>

#include <utility>

#include "trireme/base/error.h"
#include "trireme/server/zmq/endpoint.h"
#include "trireme/server/zmq/server_loop.h"

namespace trireme::server {

namespace {

// Checks the options, and sets a log if there is none.
ZmqServer::Options checked(ZmqServer::Options options) {
  if (!options.log) options.log = [](const std::string&) {};
  const std::string who = fmt::format("server {} of {}", options.shard, options.shards);
  if (options.shards < 1 || options.shard < 0 || options.shard >= options.shards) {
    throw UsageError(
        fmt::format("{}: the number of a server must be 0 to {}", who, options.shards - 1));
  }
  check_endpoint(options.endpoint, who);
  if (options.secret_key.empty() != options.clients.empty()) {
    throw UsageError(
        fmt::format("{}: needs both its secret key and the folder of its clients' keys, got only "
                    "one of them",
                    who));
  }
  if (!options.secret_key.empty()) return options;
  if (!is_loopback(options.endpoint)) {
    throw UsageError(fmt::format(
        "{}: does not listen on {} without keys, where any program could change the model; "
        "make them with `trireme keys new`",
        who, options.endpoint));
  }
  if (!options.insecure_loopback) {
    throw UsageError(
        fmt::format("{}: without keys every user of this host can change the model; make them with "
                    "`trireme keys new`, or allow it (--insecure-loopback)",
                    who));
  }
  return options;
}

}  // namespace

ZmqServer::ZmqServer(Options options)
    : loop_(std::make_unique<Loop>(checked(std::move(options)))) {}
ZmqServer::~ZmqServer() = default;

const std::string& ZmqServer::endpoint() const {
  return loop_->endpoint();
}
const std::string& ZmqServer::public_key() const {
  return loop_->public_key();
}
bool ZmqServer::wait_until_over(std::chrono::milliseconds timeout) {
  return loop_->wait_until_over(timeout);
}
ZmqServer::Counts ZmqServer::counts() const {
  return loop_->counts();
}
void ZmqServer::stop() {
  loop_->stop();
}
bool ZmqServer::is_standby() const {
  return loop_->is_standby();
}
std::string ZmqServer::save() {
  return loop_->save();
}

}  // namespace trireme::server
