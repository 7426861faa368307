#include "trireme/base/clock.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/base/stopped_clock.h"

namespace trireme::test {
namespace {

using namespace std::chrono_literals;

TEST(Clock, OfTheSystemGoesForward) {
  const Clock& clock = Clock::system();
  const Clock::Time before = clock.now();
  std::this_thread::sleep_for(1ms);
  EXPECT_GE(clock.now() - before, 1ms);
}

TEST(Clock, ThatIsStoppedMovesOnlyWhenToldTo) {
  StoppedClock clock;
  const Clock::Time before = clock.now();
  EXPECT_EQ(clock.now(), before);
  clock.advance(30min);
  EXPECT_EQ(clock.now(), before + 30min);
}

}  // namespace
}  // namespace trireme::test
