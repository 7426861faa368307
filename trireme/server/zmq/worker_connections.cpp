#include "trireme/server/zmq/worker_connections.h"

#include <fmt/format.h>

#include "trireme/server/zmq/socket_options.h"

namespace trireme::server {

namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

bool WorkerConnections::has(std::uint32_t worker, std::uint64_t incarnation) const {
  const auto found = connections_.find(worker);
  return found != connections_.end() && found->second.incarnation == incarnation;
}

std::string WorkerConnections::refusal(const Request& request,
                                       const std::string& client_name) const {
  const auto found = connections_.find(request.message.worker);
  if (found == connections_.end()) return "";
  const Connection& connection = found->second;
  if (connection.client_name.value_or(client_name) == client_name) return "";
  const bool joins = request.message.type == MessageType::kJoin;
  // Once its connection has closed, a worker may be started again elsewhere.
  if (joins && connection.closed) return "";
  return fmt::format(
      "worker {} has joined with another key than that of {}; a client speaks for the worker that "
      "has joined with its own key alone{}",
      request.message.worker, client_name,
      joins ? ", so give this worker another number, or end the other process first" : "");
}

void WorkerConnections::note_request(const Request& request, const std::string& client_name) {
  if (request.message.type == MessageType::kJoin) joining_ = client_name;
  if (!has(request.message.worker, request.message.incarnation)) return;
  Connection& connection = connections_.at(request.message.worker);
  // A client must not send requests as a worker that another client's key has joined.
  if (connection.client_name.value_or(client_name) != client_name) return;
  connection.client_name = client_name;
  connection.from = request.from;
  connection.heard = Clock::now();
  connection.closed.reset();
}

void WorkerConnections::note_reply(const Request& request, const Message& reply) {
  if (reply.type != MessageType::kReply) return;
  const std::uint32_t worker = request.message.worker;
  if (request.message.type == MessageType::kJoin) {
    Connection& connection = connections_[worker];
    if (connection.incarnation != request.message.incarnation && request.from != kNoReply) {
      options_.log(fmt::format("worker {} has joined{}, at step {}", worker,
                               joining_.empty() ? "" : fmt::format(" with the key of {}", joining_),
                               reply.clock));
    }
    connection = {.incarnation = request.message.incarnation,
                  .from = request.from,
                  .heard = Clock::now(),
                  .probed = {},
                  .closed = {},
                  .client_name = {}};
    if (request.from != kNoReply) connection.client_name = joining_;
  } else if (request.message.type == MessageType::kLeave && connections_.erase(worker) > 0 &&
             request.from != kNoReply) {
    options_.log(fmt::format("worker {} has left", worker));
  }
}

void WorkerConnections::expect_all() {
  for (auto& [worker, connection] : connections_) {
    if (connection.from != kNoReply) continue;
    connection.heard = connection.closed.emplace(Clock::now());
  }
}

void WorkerConnections::find_lost(
    const std::function<void(std::uint32_t worker, const std::string& why)>& lose) {
  const Time now = Clock::now();
  for (auto at = connections_.begin(); at != connections_.end();) {
    const std::uint32_t worker = at->first;
    const std::string why = why_lost(worker, at->second, now);
    ++at;
    if (why.empty()) continue;
    options_.log(fmt::format("worker {} is lost: {}", worker, why));
    connections_.erase(worker);
    lose(worker, why);
  }
}

// Why the worker is lost; empty: it is not.
std::string WorkerConnections::why_lost(std::uint32_t worker, Connection& connection, Time now) {
  const auto silence = now - connection.heard;
  if (silence < 2 * kHeartbeat) return "";
  if (!connection.closed && now - connection.probed >= kHeartbeat) {
    connection.probed = now;
    if (!socket_.probe(connection.from, worker)) connection.closed = now;
  }
  if (silence >= options_.dead_after) {
    return fmt::format("silent for {:.3g} s", std::chrono::duration<double>(silence).count());
  }
  if (connection.closed && now - *connection.closed >= options_.gone_after)
    return "its connection has closed";
  return "";
}

}  // namespace trireme::server
