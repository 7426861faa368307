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

/// The data of one call where nobody but its ranks carries it: every rank sums a slice of the
/// reductions that leave the whole sum somewhere and hands it out; everything else goes straight to
/// whom it is for. Splits and allocations count as nothing.
Traffic data_of(const Operation& operation, int ranks, int rank);

}  // namespace trireme
