#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/base/region.h"
#include "trireme/checkpoint/run_state.h"

namespace trireme {

/// The content of a checkpoint's manifest.json: docs/format/checkpoint.md.
struct Manifest {
  struct File {
    std::string name;
    std::int64_t bytes = 0;
    std::string sha256;
  };

  /// A region of a tensor; its elements lie in files[file].
  struct Chunk {
    std::size_t file = 0;
    Region region;
  };

  struct Tensor {
    DType dtype = DType::kF32;
    TensorShape shape;
    std::vector<Chunk> chunks;
  };

  RunState state;
  std::vector<File> files;
  std::map<std::string, Tensor> tensors;
};

/// Returns the entry of that name, made without chunks if there is none. Throws UsageError if there
/// is one of another type or shape.
Manifest::Tensor& entry(Manifest& manifest, const std::string& name, DType dtype,
                        std::span<const std::int64_t> shape);

/// Returns the name of a chunk in its file: "fc.weight[0:512]"; of a whole tensor, its own.
std::string stored_name(std::string_view tensor, const Region& region);

/// "f32[512, 784]"
std::string describe(DType dtype, std::span<const std::int64_t> shape);

/// Throws UsageError unless file names are plain and the chunks of each tensor cover it exactly
/// once.
void check(const Manifest& manifest);

/// Joins the manifests that ranks wrote about their own files, in the order of their ranks. Step
/// and metadata are the first one's. If several ranks hold the same chunk, the lowest is named.
/// Throws UsageError if ranks disagree about a tensor's type or shape or about a section's value,
/// or if the chunks do not cover each tensor exactly once.
Manifest merge(std::span<const Manifest> parts);

/// Returns the JSON of a rank's part, whose chunks need not cover their tensors.
std::string to_json(const Manifest& manifest);

/// Reads it back. Throws UsageError.
Manifest parse_part(std::string_view json);

/// Returns the text of manifest.json: the manifest and its own SHA-256.
std::string to_file(const Manifest& manifest);

/// Reads it back, of format 1 or 2; `file` is named in errors. Throws DataError unless it is whole
/// and consistent.
Manifest parse_manifest(std::string_view text, std::string_view file);

}  // namespace trireme
