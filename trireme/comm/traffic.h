#pragma once

#include <cstdint>

namespace trireme {

struct Operation;

/// Bytes that this rank has sent to others and received from them.
struct Traffic {
  std::int64_t sent = 0;
  std::int64_t received = 0;

  Traffic& operator+=(const Traffic& other) {
    sent += other.sent;
    received += other.received;
    return *this;
  }
  friend Traffic operator+(Traffic a, const Traffic& b) { return a += b; }
  friend Traffic operator-(const Traffic& a, const Traffic& b) {
    return {a.sent - b.sent, a.received - b.received};
  }
  bool operator==(const Traffic&) const = default;
};

/// Returns the data that `rank` moves in one call if all ranks communicate directly: each rank sums
/// a slice of an all_reduce or reduce and sends the sum to the others; all other data goes from
/// giver to getter. Splits and allocations count as nothing.
Traffic data_of(const Operation& operation, int ranks, int rank);

}  // namespace trireme
