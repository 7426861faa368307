#pragma once

#include <atomic>

#include "trireme/base/clock.h"

namespace trireme::test {

/// Stands still until it is told to advance. Thread-safe.
class StoppedClock final : public Clock {
 public:
  Time now() const override { return Time(Time::duration(since_epoch_.load())); }

  void advance(Time::duration by) { since_epoch_ += by.count(); }

 private:
  std::atomic<Time::rep> since_epoch_{Clock::system().now().time_since_epoch().count()};
};

}  // namespace trireme::test
