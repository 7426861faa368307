#pragma once

#include <filesystem>

#include "trireme/base/files.h"
#include "trireme/checkpoint/retention.h"

namespace trireme {

/// Copies the checkpoint in `folder` to `directory`/step-N, on another disk perhaps, and removes
/// from `directory` the checkpoints of later steps and those that are not kept. The directory
/// belongs to one run.
///
/// Like the checkpoint itself, the copy appears as a whole or not at all; each file of it is read
/// back and hashed. Throws DataError if a file is damaged, cannot be read or cannot be written:
/// nothing is left of the copy then, and the older ones stay.
void mirror_checkpoint(const std::filesystem::path& folder, const std::filesystem::path& directory,
                       const Retention& retention, Files& files = real_files());

}  // namespace trireme
