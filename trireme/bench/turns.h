#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "trireme/comm/communicator.h"

namespace trireme::bench {

/// One of several things that are timed in turn.
struct Contender {
  std::string name;
  /// Collective: makes that many calls one after another and returns the seconds of one on the
  /// slowest rank, the same on every rank.
  std::function<double(int calls)> batch;

  int calls = 1;                ///< of a batch; take_turns() sets it
  std::vector<double> seconds;  ///< what a call took in each batch, ascending

  double median() const { return seconds[seconds.size() / 2]; }
};

/// The largest of the ranks' values. Collective.
double slowest(Communicator& world, double seconds);

/// The time of one of `calls` calls on the slowest rank. Collective.
double time_calls(Communicator& world, int calls, const std::function<void()>& call);

/// Times all contenders in turn, A B C A B C, for about `seconds` in all and at least seven rounds.
/// A batch is a series of calls of about 20 ms: long compared with the clock and the barrier before
/// it, and short compared with disturbances of the machine, which therefore fall into few batches
/// and do not change the median. Collective.
void take_turns(Communicator& world, std::vector<Contender>& contenders, double seconds);

}  // namespace trireme::bench
