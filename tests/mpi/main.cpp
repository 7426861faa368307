// main() of test programs under mpirun: rank 0 reports as usual, the others what fails.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "trireme/comm/mpi/mpi.h"

namespace trireme::test {
namespace {

class OnlyFailures : public testing::EmptyTestEventListener {
 public:
  explicit OnlyFailures(int rank) : rank_(rank) {}

 private:
  void OnTestStart(const testing::TestInfo& test) override {
    test_ = fmt::format("{}.{}", test.test_suite_name(), test.name());
  }
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    fmt::print(stderr, "{}:{}: {} on rank {}: {}\n", result.file_name() ? result.file_name() : "?",
               result.line_number(), test_, rank_, result.message());
  }

  std::string test_;
  int rank_;
};

// An mpirun of another MPI starts as many worlds of one.
void expect_the_world_that_was_started(int size) {
  const char* const wanted = std::getenv("TRIREME_TEST_RANKS");
  if (wanted == nullptr || std::atoi(wanted) == size) return;
  fmt::print(stderr, "{} ranks were started, {} found; is this the mpirun of {}?\n", wanted, size,
             mpi::library());
  std::exit(1);
}

}  // namespace
}  // namespace trireme::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const auto world = trireme::mpi::world();
  trireme::test::expect_the_world_that_was_started(world->size());
  if (world->rank() != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new trireme::test::OnlyFailures(world->rank()));
  }
  return RUN_ALL_TESTS();
}
