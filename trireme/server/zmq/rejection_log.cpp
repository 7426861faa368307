#include "trireme/server/zmq/rejection_log.h"

#include <fmt/format.h>

namespace trireme::server {

namespace {

constexpr std::chrono::seconds kQuiet{5};

}  // namespace

void RejectionLog::add(const std::string& what) {
  ++count_;
  last_ = what;
  time_passed();
}

void RejectionLog::time_passed() {
  const auto now = std::chrono::steady_clock::now();
  if (logged_ == count_ || now < quiet_until_) return;
  const std::int64_t held_back = count_ - logged_;
  logged_ = count_;
  quiet_until_ = now + kQuiet;
  if (!log_) return;
  log_(held_back == 1 ? fmt::format("rejected: {}", last_)
                      : fmt::format("rejected {} times; the last: {}", held_back, last_));
}

}  // namespace trireme::server
