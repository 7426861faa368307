// Rank 1 never comes to the meeting, with MPI initialized or without; the others say so, and the
// job ends. Argument: "initialized" or "absent".
#include <mpi.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "trireme/base/error.h"
#include "trireme/comm/mpi/mpi.h"

namespace {

int number(const char* open_mpi, const char* mpich) {
  const char* value = std::getenv(open_mpi);
  if (value == nullptr) value = std::getenv(mpich);
  return value == nullptr ? 0 : std::atoi(value);
}

}  // namespace

int main(int, char** argv) {
  const int rank = number("OMPI_COMM_WORLD_RANK", "PMI_RANK");
  const int size = number("OMPI_COMM_WORLD_SIZE", "PMI_SIZE");
  if (std::string(argv[1]) == "initialized") {
    int level = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level);
  }
  if (rank == 1) {
    ::alarm(60);
    ::pause();
  }
  try {
    trireme::mpi::world({.timeout = std::chrono::milliseconds(1500),
                         .job = std::to_string(::getppid()),
                         .rank = rank,
                         .size = size,
                         .ranks_of_host = size});
  } catch (const trireme::CommError& error) {
    std::printf("%s\n", error.what());
    std::fflush(stdout);
    return 4;
  }
  return 0;
}
