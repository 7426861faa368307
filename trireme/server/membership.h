#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trireme/server/message.h"

namespace trireme::server {

/// The workers of a server: which have joined, and how many steps each has pushed. One thread.
class Membership {
 public:
  using Time = std::chrono::nanoseconds;  ///< of the server's clock

  enum class Presence : std::uint8_t { kAwaited, kHere, kLeft, kLost };

  struct Worker {
    Presence presence = Presence::kAwaited;
    std::uint64_t incarnation = 0;
    std::uint64_t sequence = 0;  ///< of its last push or store that was applied
    std::int64_t clock = 0;
    bool is_done = false;  ///< it has pushed its last step
    Time heard{};          ///< when its last message came
    std::string why_lost;

    bool is_gone() const { return presence == Presence::kLeft || presence == Presence::kLost; }
    bool may_push() const { return !is_done && !is_gone(); }
  };

  /// Sets the number of workers; new ones have not joined.
  void resize(std::size_t count) { workers_.resize(count); }

  std::size_t size() const { return workers_.size(); }
  Worker& operator[](std::uint32_t worker) { return workers_[worker]; }
  const Worker& operator[](std::uint32_t worker) const { return workers_[worker]; }
  auto begin() { return workers_.begin(); }
  auto begin() const { return workers_.begin(); }
  auto end() { return workers_.end(); }
  auto end() const { return workers_.end(); }

  /// The worker that sent `message`. Throws UsageError if it has not joined or another process has
  /// joined in its place, and CommError if it is lost.
  Worker& sender_of(const Message& message);

  /// Notes that a message has come, unless it is from an earlier incarnation of the worker.
  void note_activity(const Message& message, Time now);

  /// The minimum clock over workers that may still push, excluding `except`; the largest int64 if
  /// there are none.
  std::int64_t slowest_clock(std::optional<std::uint32_t> except = {}) const;

  /// The number of workers that may still push, including those that have not joined yet.
  int still_pushing() const;
  int lost() const;

  /// True if all workers but `worker` have left or are lost.
  bool is_last(std::uint32_t worker) const;

  /// True if there are workers and all of them have left or are lost.
  bool all_gone() const;

 private:
  std::vector<Worker> workers_;
};

}  // namespace trireme::server
