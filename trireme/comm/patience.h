#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <thread>

namespace trireme {

/// How somebody who waits for `bytes` looks again: giving way to others while they can be on their
/// way, then after naps that grow with the time that has passed. With more ranks than cores the
/// one who is waited for gets the core.
class Patience {
 public:
  explicit Patience(std::size_t bytes = 0)
      : begin_(Clock::now()),
        spin_(std::min<Clock::duration>(
            std::chrono::microseconds(50) + std::chrono::nanoseconds(bytes),  // at 1 GB/s
            std::chrono::milliseconds(50))) {}

  /// How long to sleep now; zero to only give way.
  std::chrono::microseconds nap() const {
    using std::chrono::microseconds;
    const auto waited = Clock::now() - begin_;
    if (waited < spin_) return microseconds(0);
    return std::clamp(std::chrono::duration_cast<microseconds>(waited / 16), microseconds(20),
                      microseconds(200));
  }

  void pause() const {
    if (const auto time = nap(); time.count() > 0) {
      std::this_thread::sleep_for(time);
    } else {
      std::this_thread::yield();
    }
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin_;
  Clock::duration spin_;
};

}  // namespace trireme
