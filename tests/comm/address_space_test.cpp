// A limit of the address space (ulimit -v), as batch systems set it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "trireme/base/error.h"
#include "trireme/comm/shm/world.h"

namespace trireme {
namespace {

constexpr std::size_t kGiB = std::size_t{1} << 30;

// Lets this process map `bytes` more than it has.
void limit_address_space(std::size_t bytes) {
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const std::size_t now = pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const rlimit limit{now + bytes, now + bytes};
  if (setrlimit(RLIMIT_AS, &limit) != 0) std::abort();
}

// The world is mapped a second time, as a rank that was forked by its launcher does.
[[noreturn]] void train_within(std::size_t bytes) {
  limit_address_space(bytes);
  shm::World of_launcher = shm::World::create(1);
  shm::World of_rank = shm::World::open(dup(of_launcher.fd()));
  const auto rank = of_rank.join(0);
  const Memory parameters = rank->allocate(bytes / 8);
  const void* const heap = std::malloc(bytes / 4);  // neither is touched
  std::_Exit(parameters.data() != nullptr && heap != nullptr ? 0 : 1);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which map terabytes

TEST(AddressSpace, WithALimitIsSharedWithTheRestOfAProcess) {
  for (const std::size_t limit : {kGiB / 2, 2 * kGiB, 16 * kGiB, 64 * kGiB}) {
    EXPECT_EXIT(train_within(limit), testing::ExitedWithCode(0), "") << limit;
  }
}

TEST(AddressSpace, ThatIsTooSmallNamesTheLimit) {
  EXPECT_EXIT(
      {
        limit_address_space(kGiB / 4);
        try {
          shm::World::create(1, {.bytes = kGiB});
        } catch (const UsageError& error) {
          fprintf(stderr, "%s", error.what());
          std::_Exit(2);
        }
      },
      testing::ExitedWithCode(2),
      "shared memory: 10.. MiB of address space could not be mapped: Cannot allocate memory; this "
      "process may have [0-9]+ MiB and has [0-9]+ .`ulimit -v` shows and raises the limit.");
}

#endif

}  // namespace
}  // namespace trireme
