#pragma once

#include <chrono>

namespace trireme {

/// A source of time for deadlines and timeouts. Code that has a deadline borrows a Clock, so that a
/// test can stop the time and move it forward.
///
/// What sleeps or spins inside the kernel or a transport measures real time in any case.
/// Thread-safe.
class Clock {
 public:
  using Time = std::chrono::steady_clock::time_point;

  virtual ~Clock() = default;

  /// Never goes back.
  virtual Time now() const = 0;

  /// The steady clock of this machine.
  static const Clock& system();
};

}  // namespace trireme
