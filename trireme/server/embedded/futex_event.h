#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace trireme::server {

/// An event in shared memory: a process waits until a condition holds, and another one that has
/// changed the condition notifies it. The waiter polls for a while and then sleeps in the kernel.
///
///     waiter: event.wait_until([&] { return something(); }, at_most);
///     other:  change something; event.notify();
struct FutexEvent {
  std::atomic<std::uint32_t> notified{0};
  std::atomic<std::uint32_t> sleeping{0};

  void notify();

  /// Returns false if `done` is still false after `at_most`, which the scheduler may exceed a
  /// little.
  template <class Done>
  bool wait_until(Done done, std::chrono::milliseconds at_most) {
    for (int i = 0; i < kPolls; ++i) {
      if (done()) return true;
      back_off(i);
    }
    const std::uint32_t seen = notified.load();
    sleeping.store(1);
    if (!done()) sleep(seen, at_most);
    sleeping.store(0);
    return done();
  }

 private:
  // A wake-up costs 15 to 30 us; yielding costs about 1 us if another process wants the core.
  static constexpr int kPolls = 120;

  static void back_off(int round);
  void sleep(std::uint32_t seen, std::chrono::milliseconds at_most);
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

}  // namespace trireme::server
