#include "trireme/server/zmq/failover_link.h"

#include <fmt/format.h>

#include <thread>
#include <utility>

#include "trireme/base/error.h"

namespace trireme::server {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kRetryPause = 50ms;

}  // namespace

FailoverLink::FailoverLink(std::unique_ptr<ZmqLink> primary, std::unique_ptr<ZmqLink> replica,
                           std::shared_ptr<ZmqLink::Pair> pair,
                           std::chrono::milliseconds connect_timeout,
                           std::chrono::milliseconds lost_after)
    : links_{std::move(primary), std::move(replica)},
      pair_(std::move(pair)),
      connect_timeout_(connect_timeout),
      lost_after_(lost_after) {}

void FailoverLink::send(const Message& request, std::span<const std::span<std::byte>> outputs) {
  request_ = request;
  outputs_.assign(outputs.begin(), outputs.end());
  away_since_.reset();
  if (request.worker != kObserver)
    links_[1 - current_]->start_heartbeats(request.worker, request.incarnation);
  links_[current_]->send(request_, outputs_);
}

Message FailoverLink::receive(Deadline deadline) {
  for (;;) {
    try {
      Message reply = links_[current_]->receive(deadline);
      if (reply.type != MessageType::kError || reply.error != ErrorCode::kStandby) {
        has_replied_ = true;
        return reply;
      }
      try_other(reply.reason);
    } catch (const CommError& error) {
      if (pair_->degraded == links_[current_].get()) throw;
      try_other(error.what());
    }
  }
}

void FailoverLink::try_other(const std::string& why) {
  const Time now = Clock::now();
  if (!away_since_) away_since_ = now;
  why_[current_] = why;
  current_ = 1 - current_;
  const auto patience = has_replied_ ? lost_after_ : connect_timeout_;
  if (now - *away_since_ >= patience && !why_[current_].empty()) {
    throw CommError(fmt::format("{}; nor does its replica reply: {}", why_[0], why_[1]));
  }
  if (current_ == 0) std::this_thread::sleep_for(kRetryPause);
  links_[current_]->send(request_, outputs_);
}

}  // namespace trireme::server
