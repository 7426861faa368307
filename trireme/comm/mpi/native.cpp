#include "trireme/comm/mpi/native.h"

#include <fmt/format.h>
#include <mpi.h>

#include <cstring>
#include <limits>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/comm/mpi/mpi.h"
#include "trireme/comm/mpi/transport-inl.h"
#include "trireme/comm/semantics.h"

namespace trireme::mpi {

namespace {

bool fits(std::int64_t count) {
  return count <= std::numeric_limits<int>::max();
}

MPI_Datatype type_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return MPI_FLOAT;
    case DType::kF64:
      return MPI_DOUBLE;
    case DType::kI32:
      return MPI_INT32_T;
    case DType::kI64:
      return MPI_INT64_T;
    case DType::kU8:
      return MPI_UINT8_T;
    case DType::kF16:
    case DType::kBF16:
      break;
  }
  return MPI_DATATYPE_NULL;
}

MPI_Op op_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
    case ReduceOp::kMean:
      return MPI_SUM;
    case ReduceOp::kMin:
      return MPI_MIN;
    case ReduceOp::kMax:
      return MPI_MAX;
  }
  return MPI_OP_NULL;
}

// Has MPI the type, and an int for the elements or bytes of each buffer?
bool can_take(const Call& call, int ranks) {
  if (call.uneven) return false;
  const Semantics& semantics = semantics_of(call.kind);
  const std::int64_t bytes = call.count * static_cast<std::int64_t>(size_of(call.dtype));
  const int pieces = semantics.in_pieces || semantics.out_pieces ? ranks : 1;
  if (!semantics.sums) return fits(bytes * pieces);
  if (call.virtual_workers != 0 || type_of(call.dtype) == MPI_DATATYPE_NULL) return false;
  return fits(call.count * pieces) && (pieces == 1 || fits(bytes));
}

template <class T>
void divide(Buffer x, double divisor) {
  for (T& value : std::span(x.as<T>(), static_cast<std::size_t>(x.count))) {
    value /= static_cast<T>(divisor);
  }
}

// One collective in progress, with the memory that it needs in addition to the caller's.
struct Collective {
  MPI_Request request = MPI_REQUEST_NULL;
  std::vector<char> apart;  // the result of a reduce_scatter whose out may lie in its in

  // False if MPI has none of this kind.
  bool start(const Operation& operation, int rank, MPI_Comm comm);
  void finish(const Operation& operation, int rank);
};

bool Collective::start(const Operation& operation, int rank, MPI_Comm comm) {
  const int count = static_cast<int>(operation.count);
  const int bytes = static_cast<int>(operation.count * size_of(operation.dtype));
  void* const in = operation.in.data;
  void* const out = operation.out.data;
  const MPI_Datatype type = type_of(operation.dtype);
  const MPI_Op op = op_of(operation.op);
  switch (operation.kind) {
    case OpKind::kAllReduce:
      check(MPI_Iallreduce(MPI_IN_PLACE, out, count, type, op, comm, &request), "MPI_Iallreduce");
      return true;
    case OpKind::kReduceScatter:
      apart.resize(bytes);
      check(MPI_Ireduce_scatter_block(in, apart.data(), count, type, op, comm, &request),
            "MPI_Ireduce_scatter_block");
      return true;
    case OpKind::kReduce:
      check(operation.root == rank
                ? MPI_Ireduce(MPI_IN_PLACE, out, count, type, op, rank, comm, &request)
                : MPI_Ireduce(in, nullptr, count, type, op, operation.root, comm, &request),
            "MPI_Ireduce");
      return true;
    case OpKind::kAllGather: {
      // MPI requires the call to be in place on every rank, also where the caller has two buffers.
      char* const piece = static_cast<char*>(out) + static_cast<std::size_t>(rank) * bytes;
      if (bytes > 0 && piece != in) std::memcpy(piece, in, bytes);
      check(MPI_Iallgather(MPI_IN_PLACE, 0, MPI_BYTE, out, bytes, MPI_BYTE, comm, &request),
            "MPI_Iallgather");
      return true;
    }
    case OpKind::kAllToAll:
      check(MPI_Ialltoall(in, bytes, MPI_BYTE, out, bytes, MPI_BYTE, comm, &request),
            "MPI_Ialltoall");
      return true;
    case OpKind::kBroadcast:
      check(MPI_Ibcast(out, bytes, MPI_BYTE, operation.root, comm, &request), "MPI_Ibcast");
      return true;
    default:
      return false;
  }
}

void Collective::finish(const Operation& operation, int rank) {
  if (!apart.empty()) std::memcpy(operation.out.data, apart.data(), apart.size());
  const Semantics& semantics = semantics_of(operation.kind);
  if (!semantics.sums || operation.divisor == 1 || !gets(operation, rank)) return;
  const Buffer result{operation.out.data, operation.count, operation.dtype};
  if (operation.dtype == DType::kF32) divide<float>(result, operation.divisor);
  if (operation.dtype == DType::kF64) divide<double>(result, operation.divisor);
}

}  // namespace

struct Native::Communicator {
  MPI_Comm comm = MPI_COMM_NULL;
};

Native::Native(Engine& engine, int rank, int size, RollCall& roll_call)
    : engine_(engine),
      rank_(rank),
      size_(size),
      communicator_(std::make_unique<Communicator>(duplicate_world(engine, roll_call))) {}

Native::~Native() = default;

bool Native::carry_out(const Operation& operation, message::Deadline deadline) {
  if (!can_take(operation, size_)) return false;
  const auto collective = std::make_shared<Collective>();
  {
    const auto locked = engine_.lock();
    engine_.require_usable();
    if (!collective->start(operation, rank_, communicator_->comm)) return false;
  }
  const Backoff backoff(operation.count * size_of(operation.dtype));
  for (;;) {
    {
      const auto locked = engine_.lock();
      engine_.require_usable();
      int done = 0;
      check(MPI_Test(&collective->request, &done, MPI_STATUS_IGNORE), "MPI_Test");
      if (done) break;
      if (std::chrono::steady_clock::now() > deadline) {
        engine_.mark_failed();
        engine_.keep(collective);
        engine_.abandon(fmt::format(
            "mpi: {} by {} was not done in time: a rank does not take its part; start the program "
            "again (rank {} of {})",
            describe(operation), library(), rank_, size_));
      }
    }
    backoff.pause();
  }
  collective->finish(operation, rank_);
  return true;
}

}  // namespace trireme::mpi
