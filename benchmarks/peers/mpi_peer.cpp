// The operations of an MPI library, for `trireme bench --against openmpi|mpich`:
//
//     mpirun -n RANKS mpi_peer FOLDER CORES
//
// Built once with each library's own compiler. In place where trireme calls in place.

#include <mpi.h>

#include <cstring>
#include <vector>

#include "peer.h"

namespace {

// Types that no sum needs are sent as bytes.
MPI_Datatype type_of(const peer::Request& request) {
  if (request.dtype == "f64") return MPI_DOUBLE;
  if (request.dtype == "f32") return MPI_FLOAT;
  if (request.dtype == "i32") return MPI_INT32_T;
  if (request.dtype == "i64") return MPI_INT64_T;
  return request.dtype == "u8" ? MPI_UINT8_T : MPI_UINT16_T;
}

class Mpi final : public peer::Library {
 public:
  Mpi() {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks_);
  }
  int rank() const { return rank_; }

  void prepare(const peer::Request& request) override {
    request_ = request;
    type_ = type_of(request);
    const auto bytes = static_cast<std::size_t>(request.whole(ranks_)) *
                       static_cast<std::size_t>(request.element_bytes());
    out_.assign(bytes, 0);
    in_.assign(request.operation == "all-to-all" || request.operation == "send" ? bytes : 0, 0);
  }

  void call() override {
    const auto count = static_cast<int>(request_.count);
    void* const out = out_.data();
    const std::string& operation = request_.operation;
    if (operation == "all-reduce") {
      MPI_Allreduce(MPI_IN_PLACE, out, count, type_, MPI_SUM, MPI_COMM_WORLD);
    } else if (operation == "all-gather") {
      MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, out, count, type_, MPI_COMM_WORLD);
    } else if (operation == "reduce-scatter") {
      MPI_Reduce_scatter_block(MPI_IN_PLACE, out, count, type_, MPI_SUM, MPI_COMM_WORLD);
    } else if (operation == "broadcast") {
      MPI_Bcast(out, count, type_, 0, MPI_COMM_WORLD);
    } else if (operation == "all-to-all") {
      MPI_Alltoall(in_.data(), count, type_, out, count, type_, MPI_COMM_WORLD);
    } else {
      MPI_Sendrecv(in_.data(), count, type_, (rank_ + 1) % ranks_, 0, out, count, type_,
                   (rank_ + ranks_ - 1) % ranks_, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
  }

  void barrier() override { MPI_Barrier(MPI_COMM_WORLD); }

 private:
  int rank_ = 0;
  int ranks_ = 1;
  peer::Request request_;
  MPI_Datatype type_ = MPI_FLOAT;
  std::vector<char> in_;
  std::vector<char> out_;
};

// Must be called before MPI_Init, which touches the memory that ranks share.
void pin_early(const std::string& cores) {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK"}) {
    if (const char* rank = std::getenv(name)) return peer::pin(cores, std::atoi(rank));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "mpi_peer FOLDER CORES: started by `trireme bench --against`\n";
    return 2;
  }
  pin_early(argv[2]);
  MPI_Init(&argc, &argv);
  {
    Mpi mpi;
    peer::pin(argv[2], mpi.rank());
    peer::serve(argv[1], mpi.rank(), mpi);
  }
  MPI_Finalize();
}
