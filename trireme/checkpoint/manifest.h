#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/buffer.h"

namespace trireme {

/// What manifest.json of a checkpoint says: docs/format/checkpoint.md.
struct Manifest {
  struct File {
    std::string name;
    std::int64_t bytes = 0;
    std::string sha256;
  };

  /// Elements [offset, offset + count) of a flattened tensor lie in files[file].
  struct Slice {
    std::size_t file = 0;
    std::int64_t offset = 0;
    std::int64_t count = 0;
  };

  /// Its slices are in order and cover it without gap or overlap.
  struct Tensor {
    DType dtype = DType::kF32;
    std::vector<std::int64_t> shape;
    std::vector<Slice> slices;

    std::int64_t count() const;
  };

  std::int64_t step = 0;
  std::map<std::string, std::string> metadata;
  std::vector<File> files;
  std::map<std::string, Tensor> tensors;
};

/// The entry of that name, made without slices if there is none. Throws UsageError if there is one
/// of another type or shape.
Manifest::Tensor& entry(Manifest& manifest, const std::string& name, DType dtype,
                        std::span<const std::int64_t> shape);

/// The product of `shape`. Throws UsageError if a size is negative or the product overflows.
std::int64_t elements_of(std::span<const std::int64_t> shape);

/// The name of a slice in its file: "fc.weight[0:512]", or the tensor's own if the slice is all.
std::string stored_name(std::string_view tensor, const Manifest::Tensor& of,
                        const Manifest::Slice& slice);

/// "f32[512, 784]"
std::string describe(DType dtype, std::span<const std::int64_t> shape);

/// One manifest of those that ranks wrote about their own files, in the order of their ranks; step
/// and metadata are the first's. Where several ranks hold the same slice the lowest is named.
/// Throws UsageError if a tensor's type or shape differs between them or its slices do not cover
/// it exactly.
Manifest merge(std::span<const Manifest> parts);

/// The slices of a part that merge() is still to see need not cover their tensors.
std::string to_json(const Manifest& manifest);
Manifest parse_part(std::string_view json);

/// The file manifest.json: the manifest and its own SHA-256.
std::string to_file(const Manifest& manifest);

/// Reads it back; `file` is named in errors. Throws DataError unless it is whole and consistent.
Manifest parse_manifest(std::string_view text, std::string_view file);

}  // namespace trireme
