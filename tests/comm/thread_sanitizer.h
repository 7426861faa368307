#pragma once

#include <cstdint>

namespace trireme::test {

/// ThreadSanitizer makes a program ten times slower, and finds races whatever the numbers are.
constexpr bool under_thread_sanitizer() {
#if defined(__SANITIZE_THREAD__)
  return true;
#else
  return false;
#endif
}

/// A count that only has to be large; under ThreadSanitizer an eighth of it.
constexpr std::int64_t many(std::int64_t count) {
  return under_thread_sanitizer() ? count / 8 : count;
}

}  // namespace trireme::test
