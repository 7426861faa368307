#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mpi.h>

#include <functional>
#include <thread>

#include "trireme/base/error.h"
#include "trireme/comm/mpi/mpi.h"

namespace trireme::test {
namespace {

using testing::HasSubstr;

// Each test is run as a process of its own, without mpirun.

std::string refusal() {
  try {
    mpi::world();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

void initialize(int wanted) {
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, wanted, &provided);
  ASSERT_EQ(provided, wanted);
}

TEST(MpiStart, NamesTheLibraryBeforeItIsInitialized) {
  EXPECT_THAT(mpi::library(), testing::MatchesRegex("[A-Z][A-Za-z ]+ [0-9]+\\.[0-9.a-z]+"));
}

TEST(MpiStart, WithoutMpirunIsAWorldOfOne) {
  const auto world = mpi::world();
  EXPECT_EQ(world->rank(), 0);
  EXPECT_EQ(world->size(), 1);
  EXPECT_EQ(world->name(), "mpi");
  EXPECT_FALSE(world->next_frame(std::chrono::milliseconds(20)));
  EXPECT_GE(world->tags(), 32767);
}

TEST(MpiStart, RefusesAProgramThatInitializedItForOneThread) {
  initialize(MPI_THREAD_FUNNELED);
  EXPECT_EQ(refusal(),
            "mpi: this program has initialized MPI with MPI_THREAD_FUNNELED, wanted "
            "MPI_THREAD_SERIALIZED or MPI_THREAD_MULTIPLE; ask MPI_Init_thread for one of them, "
            "leave it to trireme, or go without MPI: communication.backend = \"gloo\", in C++ "
            "connect({.backend = \"gloo\"}), with MASTER_ADDR and MASTER_PORT set to rank 0's host "
            "and a free port there");
  MPI_Finalize();
}

TEST(MpiStart, LeavesItToAProgramThatInitializedItToFinalizeIt) {
  initialize(MPI_THREAD_SERIALIZED);
  EXPECT_EQ(mpi::world()->size(), 1);
  MPI_Finalize();
}

TEST(MpiStart, RefusesAProgramThatHasFinalizedIt) {
  initialize(MPI_THREAD_MULTIPLE);
  MPI_Finalize();
  EXPECT_THAT(refusal(), HasSubstr("already finalized MPI"));
}

TEST(MpiStart, RefusesAProgramThatHasFinalizedItInBetween) {
  initialize(MPI_THREAD_MULTIPLE);
  mpi::world();
  MPI_Finalize();
  EXPECT_THAT(refusal(), HasSubstr("already finalized MPI"));
}

TEST(MpiStart, InAnotherThreadThanMainIsNoDifference) {
  std::thread([] { EXPECT_EQ(mpi::world()->size(), 1); }).join();
}

}  // namespace
}  // namespace trireme::test
