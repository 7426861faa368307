#include "trireme/comm/nccl/moves.h"

#include <algorithm>

#include "trireme/base/partition.h"
#include "trireme/comm/nccl/tree_sum.h"
#include "trireme/comm/nccl/types.h"
#include "trireme/comm/semantics.h"

namespace trireme::nccl {

namespace {

// Terms of this many bytes are summed at a time.
constexpr std::int64_t kScratchBytes = std::int64_t{64} << 20;

}  // namespace

void Moves::carry_out(const Operation& operation, bool reproducible) {
  const Semantics& semantics = semantics_of(operation.kind);
  if (semantics.sums) {
    const bool is_native = !reproducible && operation.virtual_workers == 0 && !operation.uneven;
    return is_native ? reduce_natively(operation) : reduce_by_tree(operation);
  }
  if (operation.kind == OpKind::kAllGather && !operation.uneven) return all_gather(operation);
  if (operation.kind == OpKind::kBroadcast) return broadcast(operation);
  move_directly(operation);
}

void Moves::reduce_natively(const Operation& operation) {
  if (operation.count == 0) return;
  const Buffer& in = operation.in;
  const Buffer& out = operation.out;
  const auto count = count_of(operation.count);
  const ncclDataType_t type = type_of(operation.dtype);
  const bool averages = operation.divisor == size_ && size_ > 1;
  const ncclRedOp_t op = averages ? ncclAvg : op_of(operation.op);
  group_call([&] {
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
  if (!averages && gets(operation, rank_)) divide(operation);
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
  if (operation.count == 0) return;
  const ReductionTree& tree = *operation.tree;
  if (size_ == 1 && tree.virtual_workers() == 1) {
    const std::int64_t count = row_length(operation, size_);
    copy(operation.out.slice(0, count), operation.in.slice(0, count));
    return divide(operation);
  }
  // The slice of one rank takes the memory of all its terms.
  const auto terms = static_cast<std::int64_t>(tree.terms().size());
  const auto element = static_cast<std::int64_t>(size_of(operation.dtype));
  const std::int64_t slice = std::max<std::int64_t>(1, kScratchBytes / (terms * element));
  const bool scatters = semantics_of(operation.kind).in_pieces;
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
  const bool scatters = semantics_of(operation.kind).in_pieces;
  const auto slice_of = [&](int owner) {
    if (scatters) {
      const std::int64_t end = std::min(elements.end, operation.in_piece(owner).size());
      return Range{elements.begin, std::max(elements.begin, end)};
    }
    const Range part = partition(elements.size(), size_, owner);
    return Range{elements.begin + part.begin, elements.begin + part.end};
  };
  // Row `row` of what this rank gives to the sum that `owner` takes.
  const auto given = [&](int owner, int row) {
    const Range slice = slice_of(owner);
    const std::int64_t before = scatters ? operation.in_piece(owner).begin : 0;
    return operation.in.slice(row * row_length(operation, size_) + before + slice.begin,
                              slice.size());
  };
  const Range mine = slice_of(rank_);
  const Buffer terms{term_rows, static_cast<std::int64_t>(tree.terms().size()) * mine.size(),
                     operation.dtype, operation.in.device};
  const auto term = [&](int peer, int row) {
    return terms.slice((tree.first_term(peer) + row) * mine.size(), mine.size());
  };
  for (int row = 0; row < rows_of(operation, rank_); ++row)
    copy(term(rank_, row), given(rank_, row));
  group_call([&] {
    for_each_peer([&](int peer) {
      for (int row = 0; row < rows_of(operation, rank_); ++row) send(given(peer, row), peer);
      for (int row = 0; row < rows_of(operation, peer); ++row) receive(term(peer, row), peer);
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
  const auto wants = [&](int peer) { return gets(operation, peer); };
  group_call([&] {
    for_each_peer([&](int peer) {
      if (wants(peer)) send(sum, peer);
      const Range theirs = slice_of(peer);
      if (wants(rank_)) receive(operation.out.slice(theirs.begin, theirs.size()), peer);
    });
  });
}

void Moves::all_gather(const Operation& operation) {
  if (operation.count == 0) return;
  group_call([&] {
    Link::check(ncclAllGather(operation.in.data, operation.out.data, count_of(operation.count),
                              type_of(operation.dtype), link_.get(), stream_),
                "ncclAllGather");
  });
}

void Moves::broadcast(const Operation& operation) {
  if (operation.count == 0) return;
  group_call([&] {
    Link::check(ncclBroadcast(operation.in.data, operation.out.data, count_of(operation.count),
                              type_of(operation.dtype), operation.root, link_.get(), stream_),
                "ncclBroadcast");
  });
}

// From every rank that gives to every rank that gets.
void Moves::move_directly(const Operation& operation) {
  const bool gives_here = gives(operation, rank_);
  const bool gets_here = gets(operation, rank_);
  if (gives_here && gets_here) copy(part_from(operation, rank_), part_for(operation, rank_));
  group_call([&] {
    for_each_peer([&](int peer) {
      if (gives_here && gets(operation, peer)) send(part_for(operation, peer), peer);
      if (gets_here && gives(operation, peer)) receive(part_from(operation, peer), peer);
    });
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
