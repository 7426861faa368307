#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "trireme/base/files.h"
#include "trireme/comm/communicator.h"

namespace trireme {

/// The checkpoint from which all ranks go on.
struct CommonCheckpoint {
  std::int64_t step = 0;
  /// Newer ones that were not taken, because ranks lack them or because they are damaged, a
  /// sentence each.
  std::vector<std::string> passed_over = {};
};

/// Loads one of the checkpoints in `directory`, which ranks of different hosts may each have for
/// themselves: the newest that all ranks have, with the same manifest, and that all of them can
/// load, or the one of `step`. Collective. `load` is called on every rank with the folder of a
/// checkpoint there and must not communicate; if it throws DataError on a rank, an older checkpoint
/// is tried. No rank goes on before all have loaded.
///
/// Returns nothing if no rank has a checkpoint. Throws the same error on every rank: what `load`
/// throws apart from DataError; DataError, which says which ranks have what, if they have no
/// checkpoint in common or none can be loaded; UsageError if not all have that of `step`.
std::optional<CommonCheckpoint> restore_common(
    const std::filesystem::path& directory, std::optional<std::int64_t> step, Communicator& world,
    const std::function<void(const std::filesystem::path& folder)>& load,
    Files& files = real_files());

}  // namespace trireme
