#include "trireme/launch/machine.h"

#include <gmock/gmock.h>
#include <sched.h>
#include <unistd.h>

namespace trireme {
namespace {

TEST(Machine, CountsTheCoresOfItsAffinity) {
  cpu_set_t before;
  CPU_ZERO(&before);
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(static_cast<int>(cores_of_affinity().size()), CPU_COUNT(&before));
  EXPECT_GE(usable_cores(), 1);
  EXPECT_LE(usable_cores(), CPU_COUNT(&before));

  const int last = cores_of_affinity().back();
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(last, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(usable_cores(), 1);
  EXPECT_THAT(cores_of_affinity(), testing::ElementsAre(last));
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

TEST(Machine, BindsAThreadToCores) {
  const std::vector<int> before = cores_of_affinity();
  run_on_cores({&before.back(), 1});
  EXPECT_THAT(cores_of_affinity(), testing::ElementsAre(before.back()));
  EXPECT_EQ(cores_of_affinity(getpid()), cores_of_affinity());
  run_on_cores(before);
  EXPECT_EQ(cores_of_affinity(), before);
}

TEST(Machine, AgreesWithTheSystemsOwnFigures) {
  const Machine machine = inspect_machine();
  EXPECT_EQ(machine.usable, usable_cores());
  EXPECT_GE(machine.hardware_threads, machine.cores);
  EXPECT_GE(machine.cores, 1);
  EXPECT_GE(machine.numa_nodes, 1);
  EXPECT_GT(machine.available_memory_bytes, 0);
  EXPECT_LT(machine.available_memory_bytes, machine.memory_bytes);
  EXPECT_NEAR(static_cast<double>(machine.memory_bytes),
              static_cast<double>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE), 1 << 20);
  EXPECT_TRUE(machine.memfd_works);
  EXPECT_FALSE(machine.simd_targets.empty());
  for (std::size_t i = 1; i < machine.caches.size(); ++i) {
    EXPECT_GT(machine.caches[i].level, machine.caches[i - 1].level);
    EXPECT_GE(machine.caches[i].cores_sharing, machine.caches[i - 1].cores_sharing);
  }
}

}  // namespace
}  // namespace trireme
