#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trireme/server/message.h"

namespace trireme::server {

/// The workers of a server: who is there, and how far each has come. One thread.
class Workers {
 public:
  using Time = std::chrono::nanoseconds;  ///< of the server's clock

  enum class Presence : std::uint8_t { kAwaited, kHere, kLeft, kLost };

  struct Worker {
    Presence presence = Presence::kAwaited;
    std::uint64_t life = 0;
    std::uint64_t sequence = 0;  ///< of its last push that counts
    std::int64_t clock = 0;
    bool is_done = false;  ///< and pushes no more
    Time heard{};
    std::string why_lost;

    bool is_gone() const { return presence == Presence::kLeft || presence == Presence::kLost; }
    bool may_push() const { return !is_done && !is_gone(); }
  };

  /// So many there are; those that are new have not joined.
  void resize(std::size_t count) { workers_.resize(count); }

  std::size_t size() const { return workers_.size(); }
  Worker& operator[](std::uint32_t worker) { return workers_[worker]; }
  const Worker& operator[](std::uint32_t worker) const { return workers_[worker]; }
  auto begin() { return workers_.begin(); }
  auto begin() const { return workers_.begin(); }
  auto end() { return workers_.end(); }
  auto end() const { return workers_.end(); }

  /// Whose message that is. Throws UsageError if that one has not joined, or another process has in
  /// its place, and CommError if it is lost.
  Worker& of(const Message& message);

  /// A message has come, if it is one of a worker's present life.
  void hear(const Message& message, Time now);

  /// The clock of the slowest that still pushes, one left out if asked: those that have left or are
  /// lost hold nobody up. The largest there is if nobody pushes any more.
  std::int64_t slowest_clock(std::optional<std::uint32_t> but = {}) const;

  /// How many may still push, those that are awaited among them, and how many are lost.
  int still_pushing() const;
  int lost() const;

  /// True if all the others are gone.
  bool is_alone(std::uint32_t worker) const;

  /// True if there are any and all are gone.
  bool are_gone() const;

 private:
  std::vector<Worker> workers_;
};

}  // namespace trireme::server
