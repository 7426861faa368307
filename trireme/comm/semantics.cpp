#include "trireme/comm/semantics.h"

#include <algorithm>
#include <array>

namespace trireme {

namespace {

using enum Semantics::Ranks;

// In the order of OpKind.
constexpr std::array kTable = {
    Semantics{.name = "all_reduce", .givers = kAll, .getters = kAll, .sums = true},
    Semantics{
        .name = "reduce_scatter", .givers = kAll, .getters = kAll, .in_pieces = true, .sums = true},
    Semantics{.name = "all_gather", .givers = kAll, .getters = kAll, .out_pieces = true},
    Semantics{.name = "all_to_all",
              .givers = kAll,
              .getters = kAll,
              .in_pieces = true,
              .out_pieces = true},
    Semantics{.name = "broadcast", .givers = kRoot, .getters = kAll},
    Semantics{.name = "reduce", .givers = kAll, .getters = kRoot, .sums = true},
    Semantics{.name = "gather", .givers = kAll, .getters = kRoot, .out_pieces = true},
    Semantics{.name = "scatter", .givers = kRoot, .getters = kAll, .in_pieces = true},
    Semantics{.name = "send", .is_message = true},
    Semantics{.name = "recv", .is_message = true},
    Semantics{.name = "barrier"},
    // Each rank sends a few bytes to all others.
    Semantics{.name = "allocate", .givers = kAll, .getters = kAll, .out_pieces = true},
    Semantics{.name = "split", .givers = kAll, .getters = kAll, .out_pieces = true},
};
static_assert(kTable.size() == static_cast<std::size_t>(OpKind::kSplit) + 1);

bool is_among(Semantics::Ranks ranks, int root, int rank) {
  return ranks == kAll || (ranks == kRoot && rank == root);
}

bool is_among_others(Semantics::Ranks among, int root, int ranks, int rank) {
  return (among == kAll && ranks > 1) || (among == kRoot && rank != root);
}

}  // namespace

const Semantics& semantics_of(OpKind kind) {
  return kTable[static_cast<std::size_t>(kind)];
}

bool is_rooted(OpKind kind) {
  const Semantics& semantics = semantics_of(kind);
  return semantics.givers == kRoot || semantics.getters == kRoot;
}

bool gives(const Call& call, int rank) {
  return is_among(semantics_of(call.kind).givers, call.root, rank);
}

bool gets(const Call& call, int rank) {
  return is_among(semantics_of(call.kind).getters, call.root, rank);
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
