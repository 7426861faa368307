#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "trireme/comm/message/frame.h"

namespace trireme::message {

/// Collects the announcements of every rank's collectives and compares them in the order of the
/// calls. Not thread-safe.
class CallMatcher {
 public:
  explicit CallMatcher(int ranks) : ranks_(ranks) {}

  /// Returns the number of this rank's next collective: 1, 2, ...
  std::uint64_t next_number() { return ++last_number_; }

  /// Errors count the collectives after this call from 1: those before it are internal.
  void end_of_setup() { setup_operations_ = last_number_; }

  /// Stores an announcement: `frame`, of kind kAnnouncement, from `rank`.
  void add(int rank, const Frame& frame);

  /// Returns true once every rank has announced collective `number` and all earlier ones have been
  /// matched. Because they are matched in order, all ranks find the same mismatch first.
  bool is_complete(std::uint64_t number) const;

  /// Requires is_complete(number). Returns the announcements in the order of ranks. Throws
  /// UsageError, the same on every rank, if the calls differ; then no later collective is complete.
  std::vector<Frame> match(std::uint64_t number);

 private:
  struct Announcements {
    std::vector<Frame> frames;  // by rank
    int count = 0;              // ranks that have announced it
  };

  int ranks_;
  std::map<std::uint64_t, Announcements> announcements_;  // of collectives that are not matched
  std::uint64_t last_number_ = 0;
  std::uint64_t setup_operations_ = 0;
  std::uint64_t matched_ = 0;  // all collectives up to this one
};

}  // namespace trireme::message
