#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trireme/base/clock.h"
#include "trireme/comm/message/frame.h"

namespace trireme::message {

/// The state of the ranks of a communicator, as one rank sees it: their last calls, and which of
/// them are lost, have left or are silent. Not thread-safe.
class PeerStates {
 public:
  using Time = Clock::Time;

  /// A running process sends a frame every second, or later on a machine with more threads than
  /// cores.
  static constexpr std::chrono::milliseconds kSilence{2500};

  /// `names[r]` is the name of rank r in errors; `rank` is this rank, which is never silent.
  PeerStates(int rank, std::vector<std::string> names, Time now);

  /// Errors count the collectives after this call from 1.
  void end_of_setup(std::uint64_t number) { setup_operations_ = number; }

  /// `header`: of an announcement or message.
  void called(int rank, const Frame::Header& header);
  void announced(int rank, std::uint64_t number) { of(rank).last_announced = number; }
  void left(int rank, Time now);
  void lost(int rank, const std::string& why);
  void heard(int rank, Time when) { of(rank).last_heard = when; }

  const std::string& name(int rank) const { return of(rank).name; }
  bool has_announced(int rank, std::uint64_t number) const {
    return of(rank).last_announced >= number;
  }
  bool is_lost(int rank) const { return of(rank).is_lost; }
  const std::optional<Time>& left_at(int rank) const { return of(rank).left_at; }

  // These functions return the first rank for which something is true, or -1.

  int first_lost() const;
  /// It has not announced collective `number`.
  int first_missing(std::uint64_t number) const;
  /// It is lost, or has left without announcing collective `number`.
  int first_gone(std::uint64_t number) const;

  /// Returns the rank to name if `rank` is late for collective `number`, or for a message if it is
  /// 0: the rank that has been silent for longest, because `rank` may be waiting for it.
  int likely_failed(int rank, std::uint64_t number, Time now) const;

  /// Returns "rank 3 is lost: killed by SIGKILL", "rank 3 has left", or an empty text if it is
  /// neither.
  std::optional<std::string> why_gone(int rank) const;

  /// "its last call was barrier() at a.cpp:5 (operation 1); its process is running".
  std::string describe_last_sign(int rank, Time now) const;

 private:
  struct State {
    std::string name;
    Frame::Header last_call;
    bool has_called = false;
    std::uint64_t last_announced = 0;  // number of a collective
    std::optional<Time> left_at;
    bool is_lost = false;
    std::string why_lost;
    Time last_heard;
  };

  State& of(int rank) { return states_[static_cast<std::size_t>(rank)]; }
  const State& of(int rank) const { return states_[static_cast<std::size_t>(rank)]; }
  template <class Condition>
  int first(Condition condition) const;

  int rank_;
  std::vector<State> states_;
  std::uint64_t setup_operations_ = 0;
};

}  // namespace trireme::message
