#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/comm/communicator.h"

namespace trireme {

/// A slice of a named tensor, or all of it: elements [offset, offset + values.count) of the tensor
/// of `full_shape`, flattened. full_shape {} is one number.
struct Piece {
  std::string name;
  std::vector<std::int64_t> full_shape;
  std::int64_t offset = 0;
  Buffer values;
};

/// What a run has to know besides tensors. The texts are UTF-8.
struct RunState {
  std::int64_t step = 0;
  std::map<std::string, std::string> metadata;
};

/// Collective. Writes <directory>/step-N, N = state.step: a safetensors file for each rank that
/// passes pieces and manifest.json, which says where each tensor lies and has the SHA-256 of each
/// file (docs/format/checkpoint.md). All ranks must see the same directory, which belongs to one
/// run at a time.
///
/// Together the pieces must cover every tensor once; ranks that hold the same slice may all pass it
/// or leave it to one of them, and if several pass it the lowest rank's is read back. The state is
/// rank 0's; the step must be the same on every rank.
///
/// The checkpoint appears as a whole or not at all: it is written to step-N.partial, synced and
/// renamed, and an older step-N is replaced in the same instant. After that all but the `keep`
/// checkpoints of the highest steps are removed; keep == 0 keeps all, and the one just written
/// always stays. On failure the same error is thrown on every rank, naming the rank at fault,
/// nothing new is left and what was there before is as it was: DataError if a file cannot be
/// written, UsageError if the pieces do not fit together.
void save_checkpoint(const std::filesystem::path& directory, Communicator& world,
                     const RunState& state, std::span<const Piece> mine, int keep);

/// Fills the pieces asked for, from however many files they lie in; not collective. Other tensors
/// of the checkpoint are passed over. Throws DataError naming file or tensor and what differs:
/// manifest or file missing or damaged (every file that is needed is hashed), tensor missing or of
/// another type or shape; no piece has been changed then.
RunState load_checkpoint(const std::filesystem::path& step_directory,
                         std::span<const Piece> wanted);

/// The names of the tensors that a checkpoint holds. Throws DataError if its manifest is missing or
/// damaged.
std::set<std::string> tensors_of_checkpoint(const std::filesystem::path& step_directory);

/// The complete checkpoint of the highest step, if there is any.
std::optional<std::filesystem::path> latest_checkpoint(const std::filesystem::path& directory);

}  // namespace trireme
