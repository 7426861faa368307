#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/base/files.h"
#include "trireme/base/partition.h"
#include "trireme/checkpoint/chunk_files.h"
#include "trireme/checkpoint/manifest.h"

namespace trireme {

/// A checkpoint or a model on disk. `path` is
///
///     checkpoints/step-20       the folder of a checkpoint
///     out                       a run directory, or a directory of checkpoints: its newest one
///     model.safetensors         a model
///     model.safetensors.index.json
///
/// Names, types and shapes are read at once, values when asked for. One thread at a time.
class StoredTensors {
 public:
  /// Throws DataError, which names the file, if one is missing, damaged or, of a checkpoint, has
  /// another size than the manifest says.
  explicit StoredTensors(const std::filesystem::path& path, Files& files = real_files());
  StoredTensors(const StoredTensors&) = delete;
  StoredTensors& operator=(const StoredTensors&) = delete;

  /// The folder of the checkpoint, or the file or the index of the model.
  const std::filesystem::path& path() const { return path_; }
  bool is_checkpoint() const { return is_checkpoint_; }
  /// A model has a manifest too: with step 0, its metadata, whole tensors, and files without
  /// SHA-256.
  const Manifest& manifest() const { return manifest_; }

  /// Must be called before read() of these tensors. Opens the files that hold them; those of a
  /// checkpoint are hashed. Throws DataError, which names the file, if one is damaged.
  void verify(const std::vector<std::string>& names);
  /// Reads elements [begin, end) of the flattened tensor from whatever chunks hold them. Each byte
  /// is read once.
  void read(const std::string& name, const Range& elements, const Buffer& out) const;

 private:
  std::filesystem::path path_;
  bool is_checkpoint_;
  Manifest manifest_;
  ChunkFiles chunks_;
};

/// The kinds of tensors of a checkpoint, by their names: "model.NAME", "optimizer.NAME.SLOT",
/// others. All tensors of a model are its own.
struct StateSizes {
  struct Size {
    std::int64_t tensors = 0, elements = 0, bytes = 0;
  };
  Size model, optimizer, other;
};
StateSizes sizes_of(const StoredTensors& stored);

/// Returns "fc.weight" for "model.fc.weight" of a checkpoint, "" for what is not of the model.
std::string name_in_model(const std::string& name);

}  // namespace trireme
