#include "trireme/base/system_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <cstddef>

#include "trireme/base/error.h"

namespace trireme {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(SystemReason, SaysWhatToDoAboutLimits) {
  EXPECT_THAT(system_reason(EMFILE),
              HasSubstr("Too many open files; raise the limit of open files"));
  EXPECT_THAT(system_reason(EAGAIN), HasSubstr("ulimit -u"));
  EXPECT_THAT(system_reason(ENOMEM), HasSubstr("ulimit -v"));
  EXPECT_EQ(system_reason(ENOTDIR), "Not a directory");
  EXPECT_THAT(memory_file_reason(EPERM), HasSubstr("must allow memfd_create"));
  EXPECT_THAT(memory_file_reason(EMFILE), HasSubstr("ulimit -n"));
}

TEST(StartThread, RunsTheBody) {
  std::atomic<bool> ran = false;
  start_thread("a test", [&] { ran = true; }).join();
  EXPECT_TRUE(ran);
}

// Stacks that no address space holds: what a limit of threads looks like.
class EnormousStacks {
 public:
  EnormousStacks() {
    ::pthread_getattr_default_np(&before_);
    pthread_attr_t enormous;
    ::pthread_attr_init(&enormous);
    ::pthread_attr_setstacksize(&enormous, std::size_t{1} << 56);
    ::pthread_setattr_default_np(&enormous);
    ::pthread_attr_destroy(&enormous);
  }
  ~EnormousStacks() {
    ::pthread_setattr_default_np(&before_);
    ::pthread_attr_destroy(&before_);
  }
  EnormousStacks(const EnormousStacks&) = delete;
  EnormousStacks& operator=(const EnormousStacks&) = delete;

 private:
  pthread_attr_t before_;
};

TEST(StartThread, NamesWhatTheThreadWasFor) {
  const EnormousStacks stacks;
  try {
    start_thread("loader", [] {}).join();
    FAIL() << "a thread was started";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(),
                StartsWith("loader: cannot start a thread: Resource temporarily unavailable; "
                           "raise the limit of processes and threads"));
  }
}

}  // namespace
}  // namespace trireme
