#pragma once

#include <optional>
#include <string>

#include "trireme/config/config.h"
#include "trireme/launch/core_share.h"
#include "trireme/launch/environment.h"
#include "trireme/launch/threads.h"

namespace trireme::cli {

/// Returns what decides the threads of a rank before its cores do: training.threads; 1 if
/// training.virtual_workers is given; the environment. docs/threads.md has the rule. `config`: as
/// the user has written it. Throws what threads_of_environment() throws.
std::optional<ThreadChoice> decided_threads(const Config& config,
                                            const RankEnvironment& environment);

/// Returns the choice that is left to the cores of the rank.
ThreadChoice threads_of_share(const CoreShare& share);

/// Returns the share of this rank, one of `ranks` on this host, as far as it can be told without
/// the others: if its launcher has bound it to some of its own cores, it has bound the others
/// alike, to other cores.
CoreShare presumed_share(const RankEnvironment& environment, int ranks);

/// The cores of this host that the program which has started this rank may use, and its ranks may
/// not: mpirun binds two ranks to one core each. 0 if it has bound nothing, or started no rank.
int cores_withheld_by_launcher(const RankEnvironment& environment, const CoreShare& share);

/// Returns what the banner says of threads and cores: how many threads a rank has, why, what they
/// cost, and which cores of this host nothing uses.
///
///     1 a rank (virtual workers are given); 1 of 2 cores stays idle: more ranks would use them ...
std::string line_on_threads(const Config& config, const ThreadChoice& choice,
                            const CoreShare& share, int withheld);

}  // namespace trireme::cli
