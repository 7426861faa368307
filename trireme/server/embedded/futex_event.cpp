#include "trireme/server/embedded/futex_event.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

namespace trireme::server {

void FutexEvent::back_off(int round) {
  if (round >= kSpins) {
    ::sched_yield();
    return;
  }
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

void FutexEvent::notify() {
  if (sleeping.load() == 0) return;
  notified.fetch_add(1);
  ::syscall(SYS_futex, &notified, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void FutexEvent::sleep(std::uint32_t seen, std::chrono::milliseconds at_most) {
  const auto count = at_most.count();
  const timespec limit{count / 1000, count % 1000 * 1'000'000};
  ::syscall(SYS_futex, &notified, FUTEX_WAIT, seen, &limit, nullptr, 0);
}

}  // namespace trireme::server
