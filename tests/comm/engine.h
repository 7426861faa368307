#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/comm/ranks.h"

namespace trireme::test {

/// Something that joins ranks and that this program's main() brings: the suites of communicators
/// then run on it, instead of on those that every program has.
struct Engine {
  std::string name;              ///< "Mpi"
  std::vector<int> rank_counts;  ///< with which `run` can be called
  std::function<void(int ranks, const RankFunction& body)> run;
  bool forks = false;          ///< ranks are children of this process
  bool shares_memory = false;  ///< every rank sees what Communicator::allocate() gives to others
  std::string memory;          ///< how errors name the memory of a call: " on cuda"
  int meetings = 0;            ///< its own operations before a communicator's first collective
};

/// Null unless main() has set one before testing::InitGoogleTest().
Engine*& engine_of_program();

}  // namespace trireme::test
