#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>

#include "trireme/base/files.h"
#include "trireme/checkpoint/manifest.h"
#include "trireme/formats/safetensors.h"

namespace trireme {

/// Reads the manifest of a checkpoint. Throws DataError if it is missing or damaged.
Manifest read_manifest(const std::filesystem::path& step_directory, Files& files);

/// Returns what a manifest says of a file in `folder`, which is read to be hashed.
Manifest::File described_file(const std::filesystem::path& folder, const std::string& name,
                              Files& files);

/// The files of `folder` that hold the chunks of a manifest, each opened once. The manifest must
/// live on. Functions throw DataError, which names the file.
class ChunkFiles {
 public:
  ChunkFiles(std::filesystem::path folder, const Manifest& manifest, Files& files);

  /// Throws unless the file is there with the size that the manifest says.
  void require_size(std::size_t file) const;
  /// Opens the file, if it is not open, after it was hashed. Throws if it is missing or damaged.
  void verify(std::size_t file);
  /// Opens the file, if it is not open.
  void open(std::size_t file);

  /// Throws unless the open file holds the chunk as the manifest says.
  void require(const std::string& tensor, DType dtype, const Manifest::Chunk& chunk) const;
  /// Reads what `chunk` and `region`, both of `tensor`, have in common to its place in `out`, the
  /// memory of `region`. The file must be open.
  void read(const std::string& tensor, const Manifest::Chunk& chunk, const Region& region,
            const Buffer& out) const;

 private:
  std::filesystem::path path_of(std::size_t file) const;

  std::filesystem::path folder_;
  const Manifest& manifest_;
  Files& files_;
  std::map<std::size_t, SafetensorsFile> open_;
};

}  // namespace trireme
