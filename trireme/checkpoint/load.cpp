#include <fmt/format.h>

#include <map>

#include "trireme/base/error.h"
#include "trireme/base/files.h"
#include "trireme/base/runs.h"
#include "trireme/base/sha256.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/checkpoint/chunk_reader.h"
#include "trireme/checkpoint/manifest.h"
#include "trireme/checkpoint/step_folder.h"
#include "trireme/formats/safetensors.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

// A chunk that holds some of what is wanted.
struct Read {
  const Manifest::Chunk* chunk = nullptr;
  const StateTensor* wanted = nullptr;

  std::string stored() const { return stored_name(wanted->name, chunk->region); }
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

void verify(const fs::path& path, const Manifest::File& file, Files& files) {
  require_file(path, files);
  const std::int64_t bytes = files.open(path)->size();
  if (bytes != file.bytes) {
    throw DataError(fmt::format("{}: the file is damaged: it must have {} bytes, got {}",
                                path.string(), file.bytes, bytes));
  }
  const std::string hash = sha256_of_file(path, files);
  if (hash != file.sha256) {
    throw DataError(fmt::format("{}: the file is damaged: its SHA-256 must be {}, got {}",
                                path.string(), file.sha256, hash));
  }
}

void check(const SafetensorsFile& file, const Read& read, const fs::path& path) {
  const TensorInfo& info = file.info(read.stored());
  if (info.dtype != read.wanted->values.dtype || info.shape != read.chunk->region.local_shape()) {
    throw DataError(fmt::format("{}: tensor \"{}\" is {}, which the manifest does not say",
                                path.string(), read.stored(), describe(info.dtype, info.shape)));
  }
}

void read_common(const SafetensorsFile& file, const Read& read) {
  ChunkReader reader(file, read.stored(), read.wanted->values);
  CommonRuns runs(read.chunk->region, read.wanted->region);
  while (const auto run = runs.next()) reader.read(*run);
  reader.finish();
}

Manifest manifest_of(const fs::path& step_directory, Files& files) {
  const fs::path path = step_directory / "manifest.json";
  require_file(path, files);
  return parse_manifest(read_file(path, files), path.string());
}

}  // namespace

std::map<std::string, TensorShape> tensors_of_checkpoint(const fs::path& step_directory,
                                                         Files& files) {
  std::map<std::string, TensorShape> shapes;
  for (auto& [name, tensor] : manifest_of(step_directory, files).tensors) {
    shapes.emplace(name, tensor.shape);
  }
  return shapes;
}

RunState state_of_checkpoint(const fs::path& step_directory, Files& files) {
  return manifest_of(step_directory, files).state;
}

RunState load_checkpoint(const fs::path& step_directory, std::span<const StateTensor> wanted,
                         Files& files) {
  const Manifest manifest = manifest_of(step_directory, files);
  ReadsOfFile reads;
  for (const StateTensor& tensor : wanted) {
    plan(tensor, find(manifest, tensor, step_directory), reads);
  }

  std::map<std::size_t, SafetensorsFile> open;
  for (const auto& [index, of_file] : reads) {
    const fs::path file_path = step_directory / manifest.files[index].name;
    verify(file_path, manifest.files[index], files);
    const auto& file = open.try_emplace(index, file_path, files).first->second;
    for (const Read& read : of_file) check(file, read, file_path);
  }
  for (const auto& [index, of_file] : reads) {
    for (const Read& read : of_file) read_common(open.at(index), read);
  }
  return manifest.state;
}

std::optional<fs::path> latest_checkpoint(const fs::path& directory, Files& files) {
  const auto checkpoints = complete_checkpoints(directory, files);
  if (checkpoints.empty()) return std::nullopt;
  return checkpoints.rbegin()->second;
}

}  // namespace trireme
