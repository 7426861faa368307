#pragma once

#include <string_view>

#include "trireme/comm/operation.h"

namespace trireme {

/// What a kind of operation means: one table, which backends, counters and checks read.
///
/// Data goes from every rank that gives to every rank that gets. A rank's `in` is either one whole,
/// of which all that get receive the same, or has a piece for each rank; `out` is either one whole
/// or has a piece of each rank.
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

/// Has the call a root?
bool is_rooted(OpKind kind);

/// Does `rank` bring data to the call, or take data from it?
bool gives(const Call& call, int rank);
bool gets(const Call& call, int rank);

/// Is anything of what `rank` gives for other ranks; does `rank` get anything that is not its own?
bool gives_others(const Call& call, int ranks, int rank);
bool gets_from_others(const Call& call, int ranks, int rank);

/// Does every rank sum a slice of one row and hand it out (all_reduce, reduce)?
inline bool sums_slices(const Call& call) {
  const Semantics& semantics = semantics_of(call.kind);
  return semantics.sums && !semantics.in_pieces;
}

/// Rows in the `in` of `rank`: its nodes of the tree; 1 where nothing is summed.
int rows_of(const Operation& operation, int rank);
/// Elements of one row of an operation that sums.
std::int64_t row_length(const Operation& operation, int ranks);

/// Rows, or pieces of rows, of at most `operation.count` elements in the `in` of a rank; the most
/// that any rank has, which all ranks know.
int units_of(const Operation& operation, int ranks, int rank);
int most_units(const Operation& operation, int ranks);

/// May the data of all ranks travel inside announcements of `room` bytes? All ranks answer alike.
bool fits_inline(const Operation& operation, int ranks, std::size_t room);

/// What of this rank's `in` is for rank `to`, and what of its `out` is from rank `from`, of an
/// operation that does not sum.
Buffer part_for(const Operation& operation, int to);
Buffer part_from(const Operation& operation, int from);

}  // namespace trireme
