#pragma once

#include <string_view>

#include "trireme/comm/operation.h"

namespace trireme {

/// What each kind of operation means. Backends, counters and checks read this one table.
///
/// Data goes from every rank that gives to every rank that gets. The `in` of a rank has a piece for
/// each rank, or is one whole that all receivers get; `out` has a piece of each rank, or is one
/// whole.
struct Semantics {
  enum class Ranks : std::uint8_t { kNone, kRoot, kAll };

  std::string_view name;
  Ranks givers = Ranks::kNone;
  Ranks getters = Ranks::kNone;
  bool in_pieces = false;
  bool out_pieces = false;
  bool sums = false;        ///< what comes from several ranks is reduced over a tree
  bool is_message = false;  ///< between two ranks; `root` is the other one
};

const Semantics& semantics_of(OpKind kind);

/// Returns true if the call has a root.
bool is_rooted(OpKind kind);

/// Return true if `rank` gives data to the call, or gets data from it.
bool gives(const Call& call, int rank);
bool gets(const Call& call, int rank);

/// Return true if `rank` gives data to other ranks, or gets data of other ranks.
bool gives_others(const Call& call, int ranks, int rank);
bool gets_from_others(const Call& call, int ranks, int rank);

/// Returns true if every rank sums a slice and sends the sum to others (all_reduce, reduce).
inline bool sums_slices(const Call& call) {
  const Semantics& semantics = semantics_of(call.kind);
  return semantics.sums && !semantics.in_pieces;
}

/// Returns the rows in the `in` of `rank`: its nodes of the tree, or 1 if nothing is summed.
int rows_of(const Operation& operation, int rank);
/// Returns the elements of one row of an operation that sums.
std::int64_t row_length(const Operation& operation, int ranks);

/// Returns the rows, or the pieces of rows, of at most `operation.count` elements in the `in` of a
/// rank; and the greatest such number of any rank, which all ranks know.
int units_of(const Operation& operation, int ranks, int rank);
int most_units(const Operation& operation, int ranks);

/// Returns true if the data of every rank fits into an announcement with `room` bytes. The result
/// is the same on all ranks.
bool fits_inline(const Operation& operation, int ranks, std::size_t room);

/// Return the part of this rank's `in` that is for rank `to`, and the part of its `out` that is
/// from rank `from`, in an operation that does not sum.
Buffer part_for(const Operation& operation, int to);
Buffer part_from(const Operation& operation, int from);

}  // namespace trireme
