#include "trireme/server/zmq/peers.h"

#include <fmt/format.h>

#include "trireme/server/zmq/wire.h"

namespace trireme::server {

namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

bool Peers::has(std::uint32_t worker, std::uint64_t life) const {
  const auto peer = peers_.find(worker);
  return peer != peers_.end() && peer->second.life == life;
}

void Peers::hear(const Request& request, const std::string& client_name) {
  if (request.message.verb == Verb::kJoin) joining_ = client_name;
  if (!has(request.message.worker, request.message.life)) return;
  Peer& peer = peers_.at(request.message.worker);
  // A listed client may not speak for another one.
  if (peer.client_name.value_or(client_name) != client_name) return;
  peer.client_name = client_name;
  peer.from = request.from;
  peer.heard = Clock::now();
  peer.closed.reset();
}

void Peers::note(const Request& request, const Message& answer) {
  if (answer.verb != Verb::kAnswer) return;
  const std::uint32_t worker = request.message.worker;
  if (request.message.verb == Verb::kJoin) {
    Peer& peer = peers_[worker];
    if (peer.life != request.message.life && request.from != kNobody) {
      options_.log(fmt::format("worker {} has joined{}, at step {}", worker,
                               joining_.empty() ? "" : fmt::format(" with the key of {}", joining_),
                               answer.clock));
    }
    peer = {.life = request.message.life,
            .from = request.from,
            .heard = Clock::now(),
            .probed = {},
            .closed = {},
            .client_name = {}};
    if (request.from != kNobody) peer.client_name = joining_;
  } else if (request.message.verb == Verb::kLeave && peers_.erase(worker) > 0 &&
             request.from != kNobody) {
    options_.log(fmt::format("worker {} has left", worker));
  }
}

void Peers::call_in() {
  for (auto& [worker, peer] : peers_) {
    if (peer.from != kNobody) continue;
    peer.heard = peer.closed.emplace(Clock::now());
  }
}

void Peers::look_for_the_lost(
    const std::function<void(std::uint32_t worker, const std::string& why)>& lose) {
  const Time now = Clock::now();
  for (auto at = peers_.begin(); at != peers_.end();) {
    const std::uint32_t worker = at->first;
    const std::string why = why_lost(worker, at->second, now);
    ++at;
    if (why.empty()) continue;
    options_.log(fmt::format("worker {} is lost: {}", worker, why));
    peers_.erase(worker);
    lose(worker, why);
  }
}

// Empty: it is not.
std::string Peers::why_lost(std::uint32_t worker, Peer& peer, Time now) {
  const auto silent = now - peer.heard;
  if (silent < 2 * kHeartbeat) return "";
  if (!peer.closed && now - peer.probed >= kHeartbeat) {
    peer.probed = now;
    if (!socket_.probe(peer.from, worker)) peer.closed = now;
  }
  if (silent >= options_.dead_after) {
    return fmt::format("not heard of for {:.3g} s", std::chrono::duration<double>(silent).count());
  }
  if (peer.closed && now - *peer.closed >= options_.gone_after) return "its connection has closed";
  return "";
}

}  // namespace trireme::server
