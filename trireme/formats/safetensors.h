#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/buffer.h"
#include "trireme/base/files.h"

namespace trireme {

// Hugging Face's safetensors: named tensors and string metadata, without code in the file.
// docs/format/safetensors.md has the layout and a worked example. Little-endian machines only.

/// Free text beside the tensors. PyTorch's readers want {"format", "pt"}.
using SafetensorsMetadata = std::map<std::string, std::string>;

/// A tensor to be written; `values` are looked at, row-major, and their count must be the product
/// of `shape`.
struct NamedBuffer {
  std::string name;
  std::vector<std::int64_t> shape;
  Buffer values;
};

/// The file's bytes. Throws UsageError on a name that comes twice or is "__metadata__", and on a
/// count that is not the shape's.
std::string safetensors_bytes(std::span<const NamedBuffer> tensors,
                              const SafetensorsMetadata& metadata = {});

/// Writes the file as a whole or not at all (AtomicFile), from the tensors' own memory: no second
/// copy is held. Throws as safetensors_bytes, and DataError.
void write_safetensors(const std::filesystem::path& path, std::span<const NamedBuffer> tensors,
                       const SafetensorsMetadata& metadata = {}, Files& files = real_files());

/// Takes bytes in order, piece by piece.
using ByteSink = std::function<void(std::string_view)>;

/// A tensor to be written whose values are made while they are written, so that they need not all
/// be in memory.
struct StreamedTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  /// Called at most once; gives the bytes of all values, row-major.
  std::function<void(const ByteSink& write)> values;
};

/// The same file. Tensors are asked for their values in the order of the file, not that of
/// `tensors`. Throws UsageError if one gives more or fewer bytes than its shape has.
void write_safetensors(const std::filesystem::path& path, std::span<const StreamedTensor> tensors,
                       const SafetensorsMetadata& metadata = {}, Files& files = real_files());

/// The tensors as those whose values are made when they are written. The memory must live on.
std::vector<StreamedTensor> streamed(std::span<const NamedBuffer> tensors);

/// Bytes of a tensor's values. Throws UsageError if its shape is impossible.
std::int64_t bytes_of(const StreamedTensor& tensor);

/// One tensor of a file.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  std::int64_t count = 0;   ///< elements: the product of shape
  std::int64_t offset = 0;  ///< of its bytes behind the header
};

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  ///< in the order of their bytes
  SafetensorsMetadata metadata;
};

/// Reads the JSON of a header before `data_bytes` bytes of tensors; `file` is named in errors.
/// Throws DataError unless every name, type, shape and offset is in order and the tensors cover the
/// data without gap or overlap. Memory stays in proportion to the header.
SafetensorsHeader parse_safetensors_header(std::string_view json, std::int64_t data_bytes,
                                           std::string_view file);

/// A file opened for reading: the header is read and checked at once, tensors when asked for.
/// Threads may share it.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(std::filesystem::path path, Files& files = real_files());

  const std::filesystem::path& path() const { return path_; }
  std::vector<std::string> names() const;
  bool contains(std::string_view name) const { return by_name_.contains(name); }
  std::span<const TensorInfo> tensors() const { return header_.tensors; }
  const SafetensorsMetadata& metadata() const { return header_.metadata; }

  /// Throws DataError if the file has no such tensor.
  const TensorInfo& info(std::string_view name) const;

  /// Fills `out`, which must have the tensor's type and count, or throws DataError.
  void read(std::string_view name, Buffer out) const;
  /// Elements [first, first + out.count) of the flattened tensor: what a shard of it needs.
  void read(std::string_view name, std::int64_t first, Buffer out) const;
  /// All bytes of the tensor.
  std::string bytes(std::string_view name) const;

 private:
  void read_at(std::int64_t offset, std::span<char> out) const;

  std::filesystem::path path_;
  std::unique_ptr<File> file_;
  std::int64_t data_begin_ = 0;
  SafetensorsHeader header_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
};

}  // namespace trireme
