#pragma once

#include <exception>

#include "trireme/base/semantics.h"
#include "trireme/comm/operation.h"

namespace trireme {

/// Does `rank` bring data to the call, or take data from it?
bool gives(const Call& call, int rank);
bool gets(const Call& call, int rank);

/// Is anything of what `rank` gives for other ranks; does `rank` get anything that is not its own?
bool gives_others(const Call& call, int ranks, int rank);
bool gets_from_others(const Call& call, int ranks, int rank);

inline bool sums_slices(const Call& call) {
  return semantics_of(call.kind).sums_slices();
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

/// Does a message belong to a recv from its sender that nothing has come for yet?
inline bool is_for(const Call& sent, const Call& wanted) {
  return sent.tag == wanted.tag && sent.is_note == wanted.is_note;
}
/// May it be received there, or do count, type or memory differ?
inline bool fits(const Call& sent, const Call& wanted) {
  return sent.count == wanted.count && sent.dtype == wanted.dtype && sent.device == wanted.device;
}
/// Bytes that a backend carries of a message; of what lies on a device, none.
std::size_t carried_bytes(const Call& message);
/// The UsageError of a recv that does not fit the message that has come for it.
std::exception_ptr refusal_of(const Call& sent, int from, const Call& wanted, int rank, int ranks);

/// What of this rank's `in` is for rank `to`, and what of its `out` is from rank `from`, of an
/// operation that does not sum.
Buffer part_for(const Operation& operation, int to);
Buffer part_from(const Operation& operation, int from);

}  // namespace trireme
