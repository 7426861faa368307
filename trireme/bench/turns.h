#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "trireme/comm/communicator.h"

namespace trireme::bench {

/// One thing that is timed beside others.
struct Contender {
  std::string name;
  /// Collective: makes that many calls one after another; the time of one, in seconds, on the
  /// slowest rank, and the same on every rank.
  std::function<double(int calls)> batch;

  int calls = 1;                ///< of a batch; take_turns() sets it
  std::vector<double> seconds;  ///< what a call took in each batch, ascending

  double median() const { return seconds[seconds.size() / 2]; }
};

/// The largest of the ranks' values. Collective.
double slowest(Communicator& world, double seconds);

/// The time of one of `calls` calls on the slowest rank. Collective.
double time_calls(Communicator& world, int calls, const std::function<void()>& call);

/// Times all contenders in turn, A B C A B C, for about `seconds` in all and seven rounds at least.
/// A batch is a row of back-to-back calls of about 20 ms: long beside the clock and the barrier
/// before it, short beside what else a machine does now and then, which so falls into few batches
/// and not into their median. Collective.
void take_turns(Communicator& world, std::vector<Contender>& contenders, double seconds);

}  // namespace trireme::bench
