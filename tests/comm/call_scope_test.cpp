#include "trireme/comm/call_scope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/comm/message_of.h"
#include "tests/comm/ranks.h"
#include "trireme/base/error.h"
#include "trireme/comm/operation.h"

namespace trireme::test {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr SourceLocation kUser{.file = "/home/user/train.cpp", .line = 31};
constexpr SourceLocation kOther{.file = "eval.cpp", .line = 7};

TEST(CallScope, ReplacesThePlaceOfCallsWhileItLives) {
  {
    const CallScope scope("update", kUser);
    const SourceLocation place = place_in_scope(kOther);
    EXPECT_EQ(describe({}, CallSite(place)), "barrier() in update() at train.cpp:31");
  }
  EXPECT_EQ(describe({}, CallSite(place_in_scope(kOther))), "barrier() at eval.cpp:7");
}

TEST(CallScope, OutermostCounts) {
  const CallScope outer("attach", kUser);
  {
    const CallScope inner("broadcast_all", kOther);
    EXPECT_STREQ(place_in_scope({}).caller, "attach");
  }
  EXPECT_EQ(place_in_scope({}).line, 31);
}

TEST(CallScope, IsOfItsThreadAlone) {
  const CallScope scope("update", kUser);
  std::thread([] { EXPECT_EQ(place_in_scope(kOther).line, 7); }).join();
}

void expect_users_line(Communicator& world) {
  const std::string error = message_of<UsageError>([&] {
    const CallScope scope("update", kUser);
    if (world.rank() == 2) {
      world.split(0);
    } else {
      float x = 0;
      world.all_reduce({&x, 1, DType::kF32}).wait();
    }
  });
  EXPECT_THAT(error, HasSubstr("all_reduce(f32[1], sum) in update() at train.cpp:31"));
  EXPECT_THAT(error, HasSubstr("split() in update() at train.cpp:31"));
  EXPECT_THAT(error, Not(HasSubstr("call_scope_test")));
}

TEST(CallScope, IsWhatMismatchesName) {
  run_ranks(3, expect_users_line);
  run_ranks_over_messages(3, expect_users_line);
}

TEST(CallSite, KeepsLongNamesWithinItsRoom) {
  CallSite site({.file = "a.cpp", .line = 1, .caller = "a_function_with_a_very_long_name_indeed"});
  EXPECT_EQ(describe({}, site), "barrier() in a_function_with_a_very_() at a.cpp:1");
}

}  // namespace
}  // namespace trireme::test
