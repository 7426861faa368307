#include "trireme/checkpoint/chunk_files.h"

#include <fmt/format.h>

#include <utility>

#include "trireme/base/error.h"
#include "trireme/base/runs.h"
#include "trireme/base/sha256.h"
#include "trireme/checkpoint/chunk_reader.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

}  // namespace

Manifest read_manifest(const fs::path& step_directory, Files& files) {
  const fs::path path = step_directory / "manifest.json";
  require_file(path, files);
  return parse_manifest(read_file(path, files), path.string());
}

Manifest::File described_file(const fs::path& folder, const std::string& name, Files& files) {
  const fs::path path = folder / name;
  return {name, files.open(path)->size(), sha256_of_file(path, files)};
}

ChunkFiles::ChunkFiles(fs::path folder, const Manifest& manifest, Files& files)
    : folder_(std::move(folder)), manifest_(manifest), files_(files) {}

fs::path ChunkFiles::path_of(std::size_t file) const {
  return folder_ / manifest_.files[file].name;
}

void ChunkFiles::require_size(std::size_t file) const {
  const fs::path path = path_of(file);
  require_file(path, files_);
  const std::int64_t wanted = manifest_.files[file].bytes;
  const std::int64_t bytes = files_.open(path)->size();
  if (bytes == wanted) return;
  throw DataError(fmt::format("{}: the file is damaged: it must have {} bytes, got {}",
                              path.string(), wanted, bytes));
}

void ChunkFiles::verify(std::size_t file) {
  require_size(file);
  const fs::path path = path_of(file);
  const std::string& wanted = manifest_.files[file].sha256;
  const std::string hash = sha256_of_file(path, files_);
  if (hash != wanted) {
    throw DataError(fmt::format("{}: the file is damaged: its SHA-256 must be {}, got {}",
                                path.string(), wanted, hash));
  }
  open(file);
}

void ChunkFiles::open(std::size_t file) {
  if (!open_.contains(file)) open_.try_emplace(file, path_of(file), files_);
}

void ChunkFiles::require(const std::string& tensor, DType dtype,
                         const Manifest::Chunk& chunk) const {
  const std::string stored = stored_name(tensor, chunk.region);
  const TensorInfo& info = open_.at(chunk.file).info(stored);
  if (info.dtype == dtype && info.shape == chunk.region.local_shape()) return;
  throw DataError(fmt::format("{}: tensor \"{}\" is {}, which the manifest does not say",
                              path_of(chunk.file).string(), stored,
                              describe(info.dtype, info.shape)));
}

void ChunkFiles::read(const std::string& tensor, const Manifest::Chunk& chunk, const Region& region,
                      const Buffer& out) const {
  ChunkReader reader(open_.at(chunk.file), stored_name(tensor, chunk.region), out);
  CommonRuns runs(chunk.region, region);
  while (const auto run = runs.next()) reader.read(*run);
  reader.finish();
}

}  // namespace trireme
