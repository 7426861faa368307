#pragma once

#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

namespace trireme::test {

/// The numbers of ranks that a suite runs with: those that the environment variable
/// TRIREME_TEST_RANKS lists ("3" under the sanitizers, "1,2,3,4" in `make soak`), `usual` without
/// it.
inline std::vector<int> rank_counts(std::vector<int> usual = {1, 2, 3, 4}) {
  const char* const wanted = std::getenv("TRIREME_TEST_RANKS");
  if (wanted == nullptr) return usual;
  std::vector<int> counts;
  std::istringstream list(wanted);
  for (std::string count; std::getline(list, count, ',');) counts.push_back(std::stoi(count));
  return counts;
}

}  // namespace trireme::test
