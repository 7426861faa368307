#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <thread>

namespace trireme {

/// Back-off for a poll loop: yields for about the transfer time of `bytes`, then sleeps for growing
/// intervals (20 to 200 us), so that the rank that is waited for gets the core where there are more
/// ranks than cores.
class Backoff {
 public:
  explicit Backoff(std::size_t bytes = 0)
      : begin_(Clock::now()),
        spin_(std::min<Clock::duration>(
            std::chrono::microseconds(50) + std::chrono::nanoseconds(bytes),  // at 1 GB/s
            std::chrono::milliseconds(50))) {}

  /// Returns how long to sleep now; zero means to yield only.
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
