#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "trireme/base/files.h"
#include "trireme/base/region.h"
#include "trireme/base/state_tensor.h"
#include "trireme/checkpoint/retention.h"
#include "trireme/checkpoint/run_state.h"
#include "trireme/comm/communicator.h"

namespace trireme {

/// Collective. Writes <directory>/step-N, N = state.step: a safetensors file for each rank that
/// gives tensors, and manifest.json, which says where each tensor lies and has the SHA-256 of each
/// file (docs/format/checkpoint.md). All ranks must see the same directory, which belongs to one
/// run at a time.
///
/// Together the regions that ranks give must cover every tensor exactly once. Several ranks may
/// give the same region; the lowest rank's is read back. Tensors with is_written == false are
/// skipped. `state` is rank 0's, but for its sections, which are joined; the step must be the same
/// on every rank.
///
/// The checkpoint appears as a whole or not at all: it is written to step-N.partial, synced and
/// renamed. An older step-N is renamed to step-N.replaced before, where readers find it until the
/// new one is there. After that, the checkpoints of lower steps that `retention` does not keep are
/// removed. Only files that a checkpoint consists of are removed: what others have put beside them
/// stays. If anything fails, every rank throws the same error, which names the failed rank, and the
/// directory is as it was before: DataError if a file cannot be written, UsageError if the regions
/// do not fit together.
void save_checkpoint(const std::filesystem::path& directory, Communicator& world,
                     const RunState& state, std::span<const StateTensor> mine,
                     const Retention& retention, Files& files = real_files());

/// Fills the regions of `wanted`, from whatever regions the checkpoint stores; not collective.
/// Other tensors of the checkpoint are ignored. Reads each needed byte of a tensor once, through a
/// buffer of fixed size. Throws DataError, which names the file, if the manifest or a file is
/// missing or damaged (every file that is needed is hashed), UsageError, which names the tensor, if
/// a tensor is missing or has another type or shape. No values have been changed then.
RunState load_checkpoint(const std::filesystem::path& step_directory,
                         std::span<const StateTensor> wanted, Files& files = real_files());

/// Returns the names and shapes of the tensors that a checkpoint holds. Throws DataError if its
/// manifest is missing or damaged.
std::map<std::string, TensorShape> tensors_of_checkpoint(
    const std::filesystem::path& step_directory, Files& files = real_files());

/// Returns what a checkpoint holds besides tensors. Throws DataError if its manifest is missing or
/// damaged.
RunState state_of_checkpoint(const std::filesystem::path& step_directory,
                             Files& files = real_files());

/// Returns the complete checkpoint of the highest step, if there is any.
std::optional<std::filesystem::path> latest_checkpoint(const std::filesystem::path& directory,
                                                       Files& files = real_files());

}  // namespace trireme
