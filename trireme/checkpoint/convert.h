#pragma once

#include <cstdint>
#include <filesystem>

#include "trireme/base/files.h"

namespace trireme {

struct ConvertOptions {
  /// Of a checkpoint: into how many files of equal size.
  int files = 1;
  /// Of a model: the most bytes of tensors in one file; 0: any number.
  std::int64_t file_bytes = 0;
  /// Replace what is there.
  bool overwrite = false;
};

/// Writes the checkpoint or model `from` (StoredTensors names its forms) as `to`, which is
///
///     weights.safetensors    a model: the tensors "model.NAME" of a checkpoint, as NAME. In one
///                            file or in parts with an index (formats/safetensors_model.h).
///     anywhere/step-20       a checkpoint of step 20: all tensors and sections of a checkpoint of
///                            that step, in options.files files. A run of any layout resumes from
///                            it with the same bits.
///
/// `to` appears as a whole or not at all, and may be `from` itself. Memory: one piece
/// (checkpoint/pieces.h), whatever the size of tensors. Each byte of `from` that is needed is read
/// once, and of a checkpoint once more, before anything is written, to be hashed. One process at a
/// time may write checkpoints to a directory.
///
/// Throws UsageError if `to` exists and must not be overwritten, or is none of the two; DataError,
/// which names the file, if `from` is damaged or `to` cannot be written. Nothing is left behind
/// then.
void convert_checkpoint(const std::filesystem::path& from, const std::filesystem::path& to,
                        const ConvertOptions& options = {}, Files& files = real_files());

}  // namespace trireme
