// All-reduce (f32 sum, in place) of an MPI library: the peer of bench_all_reduce, with its sizes.
//
//     mpicxx -O2 benchmarks/mpi_all_reduce.cpp -o mpi_all_reduce
//     mpirun --allow-run-as-root --bind-to core -n 2 ./mpi_all_reduce [seconds per size]
//
// A batch is a row of back-to-back calls of about 20 ms; its time a call is that of the slowest
// rank; the table shows medians over batches.

#include <mpi.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr double kBatchSeconds = 0.02;
constexpr int kMostCallsInBatch = 2000;

double time_batch(std::vector<float>& x, int calls) {
  MPI_Barrier(MPI_COMM_WORLD);
  const double begin = MPI_Wtime();
  for (int i = 0; i < calls; ++i) {
    MPI_Allreduce(MPI_IN_PLACE, x.data(), static_cast<int>(x.size()), MPI_FLOAT, MPI_SUM,
                  MPI_COMM_WORLD);
  }
  double seconds = (MPI_Wtime() - begin) / calls;
  MPI_Allreduce(MPI_IN_PLACE, &seconds, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return seconds;
}

double median_seconds(std::size_t bytes, double seconds) {
  std::vector<float> x(bytes / sizeof(float), 0.0f);
  time_batch(x, 3);
  const double once = time_batch(x, 3);
  const int calls = std::clamp(static_cast<int>(kBatchSeconds / once), 1, kMostCallsInBatch);
  const int batches = std::max(5, static_cast<int>(seconds / (once * calls)));
  std::vector<double> times;
  for (int i = 0; i < batches; ++i) times.push_back(time_batch(x, calls));
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  const double seconds = argc > 1 ? std::atof(argv[1]) : 0.5;
  int rank = 0, ranks = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (rank == 0) std::printf("| ranks | bytes | MPI_Allreduce us |\n|---|---|---|\n");
  for (const std::size_t bytes :
       {std::size_t{4}, std::size_t{1} << 10, std::size_t{1} << 16, std::size_t{1} << 20,
        std::size_t{1} << 24, std::size_t{1} << 26, std::size_t{1} << 27}) {
    const double median = median_seconds(bytes, seconds);
    if (rank == 0) std::printf("| %d | %zu | %.2f |\n", ranks, bytes, 1e6 * median);
  }
  MPI_Finalize();
}
