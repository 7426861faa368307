#include "trireme/server/zmq/refusals.h"

#include <fmt/format.h>

namespace trireme::server {

namespace {

constexpr std::chrono::seconds kQuiet{5};

}  // namespace

void Refusals::add(const std::string& what) {
  ++count_;
  last_ = what;
  time_passed();
}

void Refusals::time_passed() {
  const auto now = std::chrono::steady_clock::now();
  if (said_ == count_ || now < quiet_until_) return;
  const std::int64_t unsaid = count_ - said_;
  said_ = count_;
  quiet_until_ = now + kQuiet;
  if (!log_) return;
  log_(unsaid == 1 ? fmt::format("refused: {}", last_)
                   : fmt::format("refused {} times; the last: {}", unsaid, last_));
}

}  // namespace trireme::server
