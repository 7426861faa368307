#include "trireme/server/zmq/failover_link.h"

#include <fmt/format.h>

#include <thread>
#include <utility>

#include "trireme/base/error.h"

namespace trireme::server {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kBetweenRounds = 50ms;

}  // namespace

FailoverLink::FailoverLink(std::unique_ptr<ZmqLink> server, std::unique_ptr<ZmqLink> backup,
                           std::shared_ptr<ZmqLink::Pair> pair,
                           std::chrono::milliseconds connect_timeout,
                           std::chrono::milliseconds lost_after)
    : links_{std::move(server), std::move(backup)},
      pair_(std::move(pair)),
      connect_timeout_(connect_timeout),
      lost_after_(lost_after) {}

void FailoverLink::send(const Message& request, std::span<const std::span<std::byte>> wanted) {
  request_ = request;
  wanted_.assign(wanted.begin(), wanted.end());
  away_since_.reset();
  if (request.worker != kObserver) links_[1 - asked_]->stand_by(request.worker, request.life);
  links_[asked_]->send(request_, wanted_);
}

Message FailoverLink::answer(Deadline deadline) {
  for (;;) {
    try {
      Message answer = links_[asked_]->answer(deadline);
      if (answer.verb != Verb::kRefusal || answer.clock != kBackupFault) {
        was_answered_ = true;
        return answer;
      }
      ask_the_other(answer.text);
    } catch (const CommError& error) {
      if (pair_->alone == links_[asked_].get()) throw;
      ask_the_other(error.what());
    }
  }
}

void FailoverLink::ask_the_other(const std::string& why) {
  const Time now = Clock::now();
  if (!away_since_) away_since_ = now;
  why_[asked_] = why;
  asked_ = 1 - asked_;
  const auto patience = was_answered_ ? lost_after_ : connect_timeout_;
  if (now - *away_since_ >= patience && !why_[asked_].empty()) {
    throw CommError(fmt::format("{}; nor does its backup answer: {}", why_[0], why_[1]));
  }
  if (asked_ == 0) std::this_thread::sleep_for(kBetweenRounds);
  links_[asked_]->send(request_, wanted_);
}

}  // namespace trireme::server
