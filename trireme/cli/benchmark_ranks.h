#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "trireme/comm/communicator.h"
#include "trireme/launch/core_share.h"

namespace trireme::cli {

/// The work of one rank of a benchmark, with its part of the cores. Returns the exit code of the
/// rank.
using BenchmarkMain = std::function<int(Communicator& world, const CoreShare& share)>;

/// Returns true if a launcher started this process as one of several ranks.
bool is_one_of_several();

/// Returns a core for each rank: its own if there are as many cores as ranks, otherwise in turn.
std::vector<int> cores_of_ranks(int ranks);

/// What the ranks of a benchmark are bound to, inside the cores that their launcher gives them: one
/// core each (cores_of_ranks()), for ranks that compute on one thread; an equal part of the cores;
/// nothing.
enum class Binding : std::uint8_t { kCore, kShare, kNone };

/// Runs `main` on the ranks of the launcher that started this process (connect()) or, without a
/// launcher, on `ranks` new processes over shared memory. If a rank fails, writes which one to
/// stderr. Returns the exit code of this process.
int run_ranks(int ranks, Binding binding, const BenchmarkMain& main);

}  // namespace trireme::cli
