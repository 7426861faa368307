#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "trireme/comm/communicator.h"

namespace trireme::cli {

/// What a rank of a benchmark does; its exit code.
using BenchmarkMain = std::function<int(Communicator& world)>;

/// True if whoever started this process started others as well: then its ranks are the world.
bool is_one_of_several();

/// The core of each rank: its own where there are as many cores as ranks, otherwise in turn.
std::vector<int> cores_of_ranks(int ranks);

/// What our own ranks are bound to: one core each (cores_of_ranks()), for those that compute on one
/// thread; their share of the cores; nothing.
enum class Binding : std::uint8_t { kCore, kShare, kNone };

/// Runs `main` on the ranks of the launcher that started this process (connect()), or, if nobody
/// did, on `ranks` of our own over shared memory. Says on stderr which rank failed, if one does.
/// Returns this process's exit code.
int run_ranks(int ranks, Binding binding, const BenchmarkMain& main);

}  // namespace trireme::cli
