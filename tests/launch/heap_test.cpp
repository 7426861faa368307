#include "trireme/launch/heap.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace trireme {
namespace {

constexpr std::size_t kBytes = std::size_t{1} << 20;
constexpr int kBlocks = 16;
constexpr int kSteps = 20;
constexpr long kPagesOfABlock = kBytes / 4096;

long page_faults() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

// As a training step does: allocates one tensor after another and then frees them all.
void one_step() {
  void* blocks[kBlocks];
  for (void*& block : blocks) {
    block = std::malloc(kBytes);
    std::memset(block, 1, kBytes);
  }
  for (void* block : blocks) std::free(block);
}

long faults_of_steps() {
  one_step();
  const long before = page_faults();
  for (int i = 0; i < kSteps; ++i) one_step();
  return page_faults() - before;
}

// In a child: the setting holds for a whole process.
TEST(Heap, FreedMemoryIsTakenAgainWithoutPageFaults) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    keep_freed_memory();
    ::_exit(faults_of_steps() < kPagesOfABlock ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "steps that allocate the same memory cost page faults anew";
}

}  // namespace
}  // namespace trireme
