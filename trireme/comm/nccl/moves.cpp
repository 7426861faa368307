#include "trireme/comm/nccl/moves.h"

#include <algorithm>

#include "trireme/base/partition.h"
#include "trireme/comm/nccl/tree_sum.h"

namespace trireme::nccl {

namespace {

// Terms of this many bytes are summed at a time.
constexpr std::int64_t kScratchBytes = std::int64_t{64} << 20;

ncclDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return ncclFloat32;
    case DType::kF64:
      return ncclFloat64;
    case DType::kF16:
      return ncclFloat16;
    case DType::kBF16:
      return ncclBfloat16;
    case DType::kI32:
      return ncclInt32;
    case DType::kI64:
      return ncclInt64;
    case DType::kU8:
      break;
  }
  return ncclUint8;
}

ncclRedOp_t op_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
    case ReduceOp::kMean:
      break;
    case ReduceOp::kMin:
      return ncclMin;
    case ReduceOp::kMax:
      return ncclMax;
  }
  return ncclSum;
}

std::size_t count_of(std::int64_t count) {
  return static_cast<std::size_t>(count);
}

}  // namespace

void Moves::carry_out(const Operation& operation, bool reproducible) {
  if (operation.count == 0) return;
  switch (operation.kind) {
    case OpKind::kAllReduce:
    case OpKind::kReduce:
    case OpKind::kReduceScatter:
      return reproducible || operation.leaves != 0 ? reduce_by_tree(operation)
                                                   : reduce_natively(operation);
    case OpKind::kAllGather:
      return all_gather(operation);
    case OpKind::kAllToAll:
      return all_to_all(operation);
    case OpKind::kBroadcast:
      return broadcast(operation);
    case OpKind::kGather:
    case OpKind::kScatter:
      return gather_or_scatter(operation);
    case OpKind::kSend:
    case OpKind::kRecv:
    case OpKind::kBarrier:
    case OpKind::kAllocate:
    case OpKind::kSplit:
      return;
  }
}

void Moves::reduce_natively(const Operation& operation) {
  const Buffer& in = operation.in;
  const Buffer& out = operation.out;
  const auto count = count_of(operation.count);
  const ncclDataType_t type = type_of(operation.dtype);
  const bool averages = operation.divisor == size_ && size_ > 1;
  const ncclRedOp_t op = averages ? ncclAvg : op_of(operation.op);
  together([&] {
    switch (operation.kind) {
      case OpKind::kReduce:
        return Link::check(
            ncclReduce(in.data, out.data, count, type, op, operation.root, link_.get(), stream_),
            "ncclReduce");
      case OpKind::kReduceScatter:
        return Link::check(
            ncclReduceScatter(in.data, out.data, count, type, op, link_.get(), stream_),
            "ncclReduceScatter");
      default:
        return Link::check(ncclAllReduce(in.data, out.data, count, type, op, link_.get(), stream_),
                           "ncclAllReduce");
    }
  });
  const bool has_result = operation.kind != OpKind::kReduce || operation.root == rank_;
  if (!averages && has_result) divide(operation);
}

void Moves::divide(const Operation& operation) {
  if (operation.divisor == 1) return;
  tree_sum({.out = operation.out.data,
            .terms = operation.out.data,
            .term_count = 1,
            .divisor = operation.divisor,
            .count = operation.count,
            .dtype = operation.dtype},
           stream_);
}

void Moves::reduce_by_tree(const Operation& operation) {
  const ReductionTree& tree = *operation.tree;
  if (tree.leaves() == 1) {
    copy(operation.out.slice(0, operation.count), operation.in.slice(0, operation.count));
    return divide(operation);
  }
  // The slice of one rank takes the memory of all its terms.
  const auto terms = static_cast<std::int64_t>(tree.terms().size());
  const auto element = static_cast<std::int64_t>(size_of(operation.dtype));
  const std::int64_t slice = std::max<std::int64_t>(1, kScratchBytes / (terms * element));
  const bool scatters = operation.kind == OpKind::kReduceScatter;
  const std::int64_t step = scatters ? slice : slice * size_;
  const std::int64_t largest =
      std::min(slice, scatters ? operation.count : (operation.count + size_ - 1) / size_);
  const cuda::QueuedMemory term_rows(static_cast<std::size_t>(largest * terms * element), stream_);
  const cuda::QueuedMemory merges(tree.merges().size_bytes(), stream_);
  cuda::check(cudaMemcpyAsync(merges.data(), tree.merges().data(), tree.merges().size_bytes(),
                              cudaMemcpyHostToDevice, stream_),
              "cudaMemcpyAsync");
  for (std::int64_t first = 0; first < operation.count; first += step) {
    reduce_slice(operation, {first, std::min(first + step, operation.count)}, term_rows.data(),
                 merges.data());
  }
}

// The owner of a slice gathers every rank's rows of it, sums them and hands the sum out.
void Moves::reduce_slice(const Operation& operation, Range elements, void* term_rows,
                         const void* merges) {
  const ReductionTree& tree = *operation.tree;
  const bool scatters = operation.kind == OpKind::kReduceScatter;
  const auto slice_of = [&](int owner) {
    if (scatters) return elements;
    const Range part = partition(elements.size(), size_, owner);
    return Range{elements.begin + part.begin, elements.begin + part.end};
  };
  const auto rows_of = [&](int peer) { return static_cast<int>(tree.nodes_of(peer).size()); };
  // Row `row` of what this rank gives to the sum that `owner` takes.
  const auto given = [&](int owner, int row) {
    const Range slice = slice_of(owner);
    const std::int64_t unit = scatters ? owner : row;
    return operation.in.slice(unit * operation.count + slice.begin, slice.size());
  };
  const Range mine = slice_of(rank_);
  const Buffer terms{term_rows, static_cast<std::int64_t>(tree.terms().size()) * mine.size(),
                     operation.dtype, Device::kCuda};
  const auto term = [&](int peer, int row) {
    return terms.slice((tree.first_term(peer) + row) * mine.size(), mine.size());
  };
  for (int row = 0; row < rows_of(rank_); ++row) copy(term(rank_, row), given(rank_, row));
  together([&] {
    for_each_peer([&](int peer) {
      for (int row = 0; row < rows_of(rank_); ++row) send(given(peer, row), peer);
      for (int row = 0; row < rows_of(peer); ++row) receive(term(peer, row), peer);
    });
  });
  const Buffer sum = operation.out.slice(mine.begin, mine.size());
  tree_sum({.out = sum.data,
            .terms = terms.data,
            .stride = mine.size(),
            .merges = static_cast<const int*>(merges),
            .term_count = static_cast<int>(tree.terms().size()),
            .divisor = operation.divisor,
            .count = mine.size(),
            .dtype = operation.dtype,
            .op = operation.op},
           stream_);
  if (scatters) return;
  const auto wants = [&](int peer) {
    return operation.kind == OpKind::kAllReduce || peer == operation.root;
  };
  together([&] {
    for_each_peer([&](int peer) {
      if (wants(peer)) send(sum, peer);
      const Range theirs = slice_of(peer);
      if (wants(rank_)) receive(operation.out.slice(theirs.begin, theirs.size()), peer);
    });
  });
}

void Moves::all_gather(const Operation& operation) {
  together([&] {
    Link::check(ncclAllGather(operation.in.data, operation.out.data, count_of(operation.count),
                              type_of(operation.dtype), link_.get(), stream_),
                "ncclAllGather");
  });
}

void Moves::broadcast(const Operation& operation) {
  together([&] {
    Link::check(ncclBroadcast(operation.in.data, operation.out.data, count_of(operation.count),
                              type_of(operation.dtype), operation.root, link_.get(), stream_),
                "ncclBroadcast");
  });
}

void Moves::all_to_all(const Operation& operation) {
  const auto piece = [&](const Buffer& x, int rank) {
    return x.slice(rank * operation.count, operation.count);
  };
  copy(piece(operation.out, rank_), piece(operation.in, rank_));
  together([&] {
    for_each_peer([&](int peer) {
      send(piece(operation.in, peer), peer);
      receive(piece(operation.out, peer), peer);
    });
  });
}

void Moves::gather_or_scatter(const Operation& operation) {
  const bool gathers = operation.kind == OpKind::kGather;
  const Buffer& whole = gathers ? operation.out : operation.in;  // the root's
  const Buffer& part = gathers ? operation.in : operation.out;
  const auto piece = [&](int rank) { return whole.slice(rank * operation.count, operation.count); };
  if (rank_ == operation.root) {
    gathers ? copy(piece(rank_), part) : copy(part, piece(rank_));
  }
  together([&] {
    if (rank_ != operation.root) {
      return gathers ? send(part, operation.root) : receive(part, operation.root);
    }
    for_each_peer(
        [&](int peer) { gathers ? receive(piece(peer), peer) : send(piece(peer), peer); });
  });
}

void Moves::copy(const Buffer& to, const Buffer& from) {
  if (to.data == from.data || from.count == 0) return;
  cuda::check(cudaMemcpyAsync(to.data, from.data, from.bytes(), cudaMemcpyDeviceToDevice, stream_),
              "cudaMemcpyAsync");
}

void Moves::send(const Buffer& x, int to) {
  if (x.count == 0) return;
  Link::check(ncclSend(x.data, count_of(x.count), type_of(x.dtype), to, link_.get(), stream_),
              "ncclSend");
}

void Moves::receive(const Buffer& x, int from) {
  if (x.count == 0) return;
  Link::check(ncclRecv(x.data, count_of(x.count), type_of(x.dtype), from, link_.get(), stream_),
              "ncclRecv");
}

}  // namespace trireme::nccl
