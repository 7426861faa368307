#include <fmt/format.h>

#include <map>

#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/base/runs.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/checkpoint/chunk_files.h"
#include "trireme/checkpoint/manifest.h"
#include "trireme/checkpoint/step_folder.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

// A chunk that holds some of what is wanted.
struct Read {
  const Manifest::Chunk* chunk = nullptr;
  const StateTensor* wanted = nullptr;
};

using ReadsOfFile = std::map<std::size_t, std::vector<Read>>;

const Manifest::Tensor& find(const Manifest& manifest, const StateTensor& wanted,
                             const fs::path& folder) {
  if (wanted.values.count != wanted.region.count()) {
    throw UsageError(fmt::format(
        "load_checkpoint: tensor \"{}\" must have memory for the {} elements of its region, got {}",
        wanted.name, wanted.region.count(), wanted.values.count));
  }
  const auto found = manifest.tensors.find(wanted.name);
  if (found == manifest.tensors.end()) {
    throw UsageError(fmt::format(
        "{}: no tensor \"{}\" among the {} of this checkpoint; model and optimizer must be those "
        "that were saved",
        folder.string(), wanted.name, manifest.tensors.size()));
  }
  const Manifest::Tensor& tensor = found->second;
  if (tensor.dtype != wanted.values.dtype || tensor.shape != wanted.region.full_shape()) {
    throw UsageError(
        fmt::format("{}: tensor \"{}\" was written as {}, the model or optimizer has {}",
                    folder.string(), wanted.name, describe(tensor.dtype, tensor.shape),
                    describe(wanted.values.dtype, wanted.region.full_shape())));
  }
  return tensor;
}

void plan(const StateTensor& wanted, const Manifest::Tensor& tensor, ReadsOfFile& reads) {
  for (const Manifest::Chunk& chunk : tensor.chunks) {
    if (common_count(chunk.region, wanted.region) > 0)
      reads[chunk.file].push_back({&chunk, &wanted});
  }
}

}  // namespace

std::map<std::string, TensorShape> tensors_of_checkpoint(const fs::path& step_directory,
                                                         Files& files) {
  std::map<std::string, TensorShape> shapes;
  for (auto& [name, tensor] : read_manifest(step_directory, files).tensors) {
    shapes.emplace(name, tensor.shape);
  }
  return shapes;
}

RunState state_of_checkpoint(const fs::path& step_directory, Files& files) {
  return read_manifest(step_directory, files).state;
}

RunState load_checkpoint(const fs::path& step_directory, std::span<const StateTensor> wanted,
                         Files& files) {
  const Manifest manifest = read_manifest(step_directory, files);
  ReadsOfFile reads;
  for (const StateTensor& tensor : wanted) {
    plan(tensor, find(manifest, tensor, step_directory), reads);
  }

  ChunkFiles stored(step_directory, manifest, files);
  for (const auto& [index, of_file] : reads) {
    stored.verify(index);
    for (const Read& read : of_file) {
      stored.require(read.wanted->name, read.wanted->values.dtype, *read.chunk);
    }
  }
  for (const auto& [index, of_file] : reads) {
    for (const auto& [chunk, wanted] : of_file) {
      stored.read(wanted->name, *chunk, wanted->region, wanted->values);
    }
  }
  return manifest.state;
}

std::optional<fs::path> latest_checkpoint(const fs::path& directory, Files& files) {
  const auto checkpoints = complete_checkpoints(directory, files);
  if (checkpoints.empty()) return std::nullopt;
  return checkpoints.rbegin()->second;
}

}  // namespace trireme
