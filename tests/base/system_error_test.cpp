#include "trireme/base/system_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>

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

// In a process of its own: no memory for another stack is what a limit of threads looks like.
TEST(StartThread, NamesWhatTheThreadWasFor) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    std::string text = "nothing was thrown";
    try {
      const rlimit nothing{1, 1};
      ::setrlimit(RLIMIT_AS, &nothing);
      // Stacks of threads that have ended may be used again.
      for (int i = 0; i < 100; ++i) start_thread("loader", [] { ::pause(); }).detach();
    } catch (const UsageError& error) {
      text = error.what();
    } catch (const std::exception& error) {
      text = "threw something else";
    }
    [[maybe_unused]] const ssize_t told = ::write(ends[1], text.data(), text.size());
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string text(1000, '\0');
  const ssize_t read = ::read(ends[0], text.data(), text.size());
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  ASSERT_GT(read, 0);
  text.resize(static_cast<std::size_t>(read));
  EXPECT_THAT(text, StartsWith("loader: cannot start a thread: Resource temporarily unavailable; "
                               "raise the limit of processes and threads"));
}

}  // namespace
}  // namespace trireme
