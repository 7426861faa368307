#pragma once

#include <unistd.h>

#include <cstddef>
#include <fstream>

namespace trireme::test {

/// The memory of this process that is in RAM.
inline std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t pages = 0;
  file >> pages >> pages;
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace trireme::test
