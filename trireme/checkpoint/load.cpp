#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/checkpoint/manifest.h"
#include "trireme/checkpoint/sha256.h"
#include "trireme/checkpoint/step_folder.h"
#include "trireme/formats/byte_source.h"
#include "trireme/formats/safetensors.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

// Elements [first, first + out.count) of a tensor of one file.
struct Read {
  std::string tensor;
  std::int64_t first = 0;
  Buffer out;
};

using ReadsOfFile = std::map<std::size_t, std::vector<Read>>;

const Manifest::Tensor& find(const Manifest& manifest, const Piece& piece, const fs::path& folder) {
  const auto found = manifest.tensors.find(piece.name);
  if (found == manifest.tensors.end()) {
    throw DataError(fmt::format(
        "{}: no tensor \"{}\" among the {} of this checkpoint; model and optimizer must be those "
        "that were saved",
        folder.string(), piece.name, manifest.tensors.size()));
  }
  const Manifest::Tensor& tensor = found->second;
  if (tensor.dtype != piece.values.dtype || tensor.shape != piece.full_shape) {
    throw DataError(fmt::format("{}: tensor \"{}\" must be {}, got {}", folder.string(), piece.name,
                                describe(piece.values.dtype, piece.full_shape),
                                describe(tensor.dtype, tensor.shape)));
  }
  if (piece.offset < 0 || piece.values.count < 0 ||
      piece.offset > tensor.count() - piece.values.count) {
    throw UsageError(fmt::format(
        "load_checkpoint: piece \"{}\" must lie in {} elements; got offset {}, count {}",
        piece.name, tensor.count(), piece.offset, piece.values.count));
  }
  return tensor;
}

void plan(const Piece& piece, const Manifest::Tensor& tensor, ReadsOfFile& reads) {
  const std::int64_t end = piece.offset + piece.values.count;
  for (const Manifest::Slice& slice : tensor.slices) {
    const std::int64_t first = std::max(piece.offset, slice.offset);
    const std::int64_t last = std::min(end, slice.offset + slice.count);
    if (first >= last) continue;
    reads[slice.file].push_back({stored_name(piece.name, tensor, slice), first - slice.offset,
                                 piece.values.slice(first - piece.offset, last - first)});
  }
}

void verify(const fs::path& path, const Manifest::File& file) {
  const std::int64_t bytes = open_file(path)->at_most();
  if (bytes != file.bytes) {
    throw DataError(fmt::format(
        "{}: the file is damaged: it must have {} bytes, got {}; resume from another checkpoint",
        path.string(), file.bytes, bytes));
  }
  const std::string hash = sha256_of_file(path);
  if (hash != file.sha256) {
    throw DataError(fmt::format(
        "{}: the file is damaged: its SHA-256 must be {}, got {}; resume from another checkpoint",
        path.string(), file.sha256, hash));
  }
}

void check(const SafetensorsFile& file, const Read& read, const fs::path& path) {
  const TensorInfo& info = file.info(read.tensor);
  if (info.dtype != read.out.dtype || read.first > info.count - read.out.count) {
    throw DataError(fmt::format("{}: tensor \"{}\" is {}, which the manifest does not say",
                                path.string(), read.tensor, describe(info.dtype, info.shape)));
  }
}

Manifest manifest_of(const fs::path& step_directory) {
  const fs::path path = step_directory / "manifest.json";
  return parse_manifest(read_file(path), path.string());
}

}  // namespace

std::set<std::string> tensors_of_checkpoint(const fs::path& step_directory) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : manifest_of(step_directory).tensors) names.insert(name);
  return names;
}

RunState load_checkpoint(const fs::path& step_directory, std::span<const Piece> wanted) {
  const Manifest manifest = manifest_of(step_directory);
  ReadsOfFile reads;
  for (const Piece& piece : wanted) plan(piece, find(manifest, piece, step_directory), reads);

  std::map<std::size_t, SafetensorsFile> files;
  for (const auto& [index, of_file] : reads) {
    const fs::path file_path = step_directory / manifest.files[index].name;
    verify(file_path, manifest.files[index]);
    const auto& file = files.try_emplace(index, file_path).first->second;
    for (const Read& read : of_file) check(file, read, file_path);
  }
  for (const auto& [index, of_file] : reads) {
    for (const Read& read : of_file) files.at(index).read(read.tensor, read.first, read.out);
  }
  return {manifest.step, manifest.metadata};
}

std::optional<fs::path> latest_checkpoint(const fs::path& directory) {
  const std::vector<std::int64_t> steps = steps_in(directory);
  if (steps.empty()) return std::nullopt;
  return StepFolder(directory, steps.back()).path();
}

}  // namespace trireme
