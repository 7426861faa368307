#include "trireme/comm/traffic.h"

#include "trireme/base/partition.h"
#include "trireme/comm/semantics.h"

namespace trireme {

namespace {

Traffic of_sum(const Operation& operation, int ranks, int rank) {
  const std::int64_t bytes = operation.count * static_cast<std::int64_t>(size_of(operation.dtype));
  const auto mine = static_cast<std::int64_t>(operation.tree->nodes_of(rank).size());
  const auto all = static_cast<std::int64_t>(operation.tree->terms().size());
  const std::int64_t slice = partition(bytes, ranks, rank).size();
  const std::int64_t others = bytes - slice;
  Traffic traffic{mine * others, (all - mine) * slice};
  if (operation.kind == OpKind::kAllReduce) {
    traffic += {(ranks - 1) * slice, others};
  } else if (rank == operation.root) {
    traffic.received += others;
  } else {
    traffic.sent += slice;
  }
  return traffic;
}

// Each rank sends the pieces of its rows to the other ranks and receives their rows of its own
// piece.
Traffic of_scattered_sum(const Operation& operation, int ranks, int rank) {
  const auto element = static_cast<std::int64_t>(size_of(operation.dtype));
  const std::int64_t own = operation.in_piece(rank).size() * element;
  const std::int64_t whole = row_length(operation, ranks) * element;
  const auto mine = static_cast<std::int64_t>(operation.tree->nodes_of(rank).size());
  const auto all = static_cast<std::int64_t>(operation.tree->terms().size());
  return {mine * (whole - own), (all - mine) * own};
}

Traffic of_movement(const Operation& operation, int ranks, int rank) {
  Traffic traffic;
  for (int peer = 0; peer < ranks; ++peer) {
    if (peer == rank) continue;
    if (gives(operation, rank) && gets(operation, peer)) {
      traffic.sent += static_cast<std::int64_t>(part_for(operation, peer).bytes());
    }
    if (gets(operation, rank) && gives(operation, peer)) {
      traffic.received += static_cast<std::int64_t>(part_from(operation, peer).bytes());
    }
  }
  return traffic;
}

}  // namespace

Traffic data_of(const Operation& operation, int ranks, int rank) {
  const Semantics& semantics = semantics_of(operation.kind);
  const auto bytes = static_cast<std::int64_t>(operation.in.bytes());
  if (semantics.is_message) {
    if (rank == operation.root || operation.is_note) return {};
    return operation.kind == OpKind::kSend ? Traffic{bytes, 0} : Traffic{0, bytes};
  }
  // The bytes that ranks exchange to make memory and communicators are not data.
  if (operation.kind == OpKind::kAllocate || operation.kind == OpKind::kSplit) return {};
  if (!semantics.sums) return of_movement(operation, ranks, rank);
  return semantics.sums_slices() ? of_sum(operation, ranks, rank)
                                 : of_scattered_sum(operation, ranks, rank);
}

}  // namespace trireme
