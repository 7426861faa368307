#include "trireme/comm/semantics.h"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/base/error.h"

namespace trireme {

namespace {

using enum Semantics::Ranks;

bool is_among_others(Semantics::Ranks among, int root, int ranks, int rank) {
  return (among == kAll && ranks > 1) || (among == kRoot && rank != root);
}

}  // namespace

bool gives(const Call& call, int rank) {
  return semantics_of(call.kind).gives(rank, call.root);
}

bool gets(const Call& call, int rank) {
  return semantics_of(call.kind).gets(rank, call.root);
}

bool gives_others(const Call& call, int ranks, int rank) {
  // In a reduction every rank sums a slice.
  return gives(call, rank) &&
         (semantics_of(call.kind).sums ||
          is_among_others(semantics_of(call.kind).getters, call.root, ranks, rank));
}

bool gets_from_others(const Call& call, int ranks, int rank) {
  return gets(call, rank) &&
         (semantics_of(call.kind).sums ||
          is_among_others(semantics_of(call.kind).givers, call.root, ranks, rank));
}

int rows_of(const Operation& operation, int rank) {
  if (!semantics_of(operation.kind).sums) return 1;
  return static_cast<int>(operation.tree->nodes_of(rank).size());
}

std::int64_t row_length(const Operation& operation, int ranks) {
  if (!semantics_of(operation.kind).in_pieces) return operation.count;
  return operation.in_piece(ranks - 1).end;
}

int units_of(const Operation& operation, int ranks, int rank) {
  return rows_of(operation, rank) * (semantics_of(operation.kind).in_pieces ? ranks : 1);
}

int most_units(const Operation& operation, int ranks) {
  int most = units_of(operation, ranks, 0);
  if (operation.virtual_workers == 0) return most;
  for (int rank = 1; rank < ranks; ++rank) {
    most = std::max(most, units_of(operation, ranks, rank));
  }
  return most;
}

bool fits_inline(const Operation& operation, int ranks, std::size_t room) {
  // No rank knows how much the others send to each other.
  if (has_own_counts(operation)) return false;
  const auto bytes = most_units(operation, ranks) * operation.count *
                     static_cast<std::int64_t>(size_of(operation.dtype));
  return bytes <= static_cast<std::int64_t>(room);
}

std::size_t carried_bytes(const Call& message) {
  if (message.device != DeviceKind::kCpu) return 0;
  return static_cast<std::size_t>(message.count) * size_of(message.dtype);
}

std::exception_ptr refusal_of(const Call& sent, int from, const Call& wanted, int rank, int ranks) {
  const auto memory_of = [&](const Call& call) {
    return sent.device == wanted.device ? std::string()
                                        : fmt::format(" on {}", name_of(call.device));
  };
  return std::make_exception_ptr(UsageError(
      fmt::format("recv: rank {} sent {}[{}]{} with tag {}, wanted {}[{}]{} (rank {} of {})", from,
                  name_of(sent.dtype), sent.count, memory_of(sent), sent.tag, name_of(wanted.dtype),
                  wanted.count, memory_of(wanted), rank, ranks)));
}

Buffer part_for(const Operation& operation, int to) {
  if (!semantics_of(operation.kind).in_pieces) return operation.in;
  const Range piece = operation.in_piece(to);
  return operation.in.slice(piece.begin, piece.size());
}

Buffer part_from(const Operation& operation, int from) {
  if (!semantics_of(operation.kind).out_pieces) return operation.out;
  const Range piece = operation.out_piece(from);
  return operation.out.slice(piece.begin, piece.size());
}

}  // namespace trireme
