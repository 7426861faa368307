#pragma once

#include <exception>

#include "trireme/base/semantics.h"
#include "trireme/comm/operation.h"

namespace trireme {

/// Return true if `rank` gives data to the call, or gets data from it.
bool gives(const Call& call, int rank);
bool gets(const Call& call, int rank);

/// Return true if `rank` gives data to other ranks, or gets data of other ranks.
bool gives_others(const Call& call, int ranks, int rank);
bool gets_from_others(const Call& call, int ranks, int rank);

/// Returns true if every rank sums a slice and sends the sum to others (all_reduce, reduce).
inline bool sums_slices(const Call& call) {
  return semantics_of(call.kind).sums_slices();
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

/// Returns true if a message belongs to a recv from its sender that no message has come for yet.
inline bool is_for(const Call& sent, const Call& wanted) {
  return sent.tag == wanted.tag && sent.is_note == wanted.is_note;
}
/// Returns true if the recv may take the message: count, type and memory are the same.
inline bool fits(const Call& sent, const Call& wanted) {
  return sent.count == wanted.count && sent.dtype == wanted.dtype && sent.device == wanted.device;
}
/// Returns the bytes that a backend moves of a message; none if the data is on a device.
std::size_t carried_bytes(const Call& message);
/// Returns the UsageError of a recv that does not fit the message that has come for it.
std::exception_ptr refusal_of(const Call& sent, int from, const Call& wanted, int rank, int ranks);

/// Return the part of this rank's `in` that is for rank `to`, and the part of its `out` that is
/// from rank `from`, in an operation that does not sum.
Buffer part_for(const Operation& operation, int to);
Buffer part_from(const Operation& operation, int from);

}  // namespace trireme
