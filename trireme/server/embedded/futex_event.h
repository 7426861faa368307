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

  static constexpr int kSpins = 40;  // a few microseconds
  // Then it yields the core, which costs about 1 us if another process wants it. A wake-up costs 15
  // to 30 us.
  static constexpr int kPolls = 120;

  /// Returns false if `done` is still false after `polls` looks.
  template <class Done>
  static bool poll(Done done, int polls = kPolls) {
    for (int i = 0; i < polls; ++i) {
      if (done()) return true;
      back_off(i);
    }
    return false;
  }

  /// Sleeps unless `done`, until it is notified or for `at_most`.
  template <class Done>
  void sleep_unless(Done done, std::chrono::milliseconds at_most) {
    const std::uint32_t seen = notified.load();
    sleeping.store(1);
    if (!done()) sleep(seen, at_most);
    sleeping.store(0);
  }

  /// Returns false if `done` is still false after `at_most`, which the scheduler may exceed a
  /// little.
  template <class Done>
  bool wait_until(Done done, std::chrono::milliseconds at_most) {
    if (poll(done)) return true;
    sleep_unless(done, at_most);
    return done();
  }

 private:
  static void back_off(int round);
  void sleep(std::uint32_t seen, std::chrono::milliseconds at_most);
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

}  // namespace trireme::server
