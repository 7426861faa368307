#include "trireme/checkpoint/stored_tensors.h"

#include <fmt/format.h>

#include <limits>
#include <map>
#include <set>

#include "trireme/base/error.h"
#include "trireme/base/runs.h"
#include "trireme/checkpoint/checkpoint.h"
#include "trireme/formats/safetensors_index.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kModel = "model.";

bool holds_checkpoint(const fs::path& folder, Files& files) {
  return files.kind_of(folder / "manifest.json") == FileKind::kFile;
}

// "out/" is "out".
fs::path without_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

fs::path found(const fs::path& given, Files& files) {
  fs::path path = without_slash(given);
  if (files.kind_of(path) != FileKind::kDirectory) {
    fs::path model = safetensors_file_or_index(path, files);
    if (files.kind_of(model) == FileKind::kNone) {
      throw DataError(fmt::format(
          "{}: must be a checkpoint, a run directory or a model.safetensors, there is nothing",
          path.string()));
    }
    require_file(model, files);
    return model;
  }
  if (holds_checkpoint(path, files)) return path;
  for (const fs::path& directory : {path / "checkpoints", path}) {
    if (const auto newest = latest_checkpoint(directory, files)) return *newest;
  }
  throw DataError(fmt::format(
      "{}: must be a checkpoint, a run directory with one, or a model.safetensors; there is no "
      "complete checkpoint in it",
      path.string()));
}

Manifest manifest_of_model(const fs::path& path, Files& files) {
  const SafetensorsFiles model(path, files);
  Manifest manifest;
  manifest.state.metadata = model.metadata();
  std::map<fs::path, std::size_t> known;
  for (const std::string& name : model.names()) {
    const fs::path& file = model.path_of(name);
    const auto [place, is_new] = known.try_emplace(file, manifest.files.size());
    if (is_new) manifest.files.push_back({file.filename().string(), files.open(file)->size(), ""});
    const TensorInfo& info = model.info(name);
    Manifest::Tensor& tensor = entry(manifest, name, info.dtype, info.shape);
    if (info.count > 0) tensor.chunks.push_back({place->second, Region(info.shape)});
  }
  return manifest;
}

// "optimizer.fc.weight.exp_avg", "group-1.optimizer.fc.weight.exp_avg"
bool is_optimizer(std::string_view name) {
  if (name.starts_with("group-")) name.remove_prefix(name.find('.') + 1);
  return name.starts_with("optimizer.");
}

// sum + count * size, or the largest integer: a manifest may claim tensors that no file holds.
std::int64_t sum_or_most(std::int64_t sum, std::int64_t count, std::int64_t size) {
  std::int64_t product = 0;
  if (__builtin_mul_overflow(count, size, &product) || __builtin_add_overflow(sum, product, &sum)) {
    return std::numeric_limits<std::int64_t>::max();
  }
  return sum;
}

}  // namespace

StoredTensors::StoredTensors(const fs::path& path, Files& files)
    : path_(found(path, files)),
      is_checkpoint_(files.kind_of(path_) == FileKind::kDirectory),
      manifest_(is_checkpoint_ ? read_manifest(path_, files) : manifest_of_model(path_, files)),
      chunks_(is_checkpoint_ ? path_ : path_.parent_path(), manifest_, files) {
  for (std::size_t file = 0; file < manifest_.files.size(); ++file) chunks_.require_size(file);
}

void StoredTensors::verify(const std::vector<std::string>& names) {
  std::set<std::size_t> needed;
  for (const std::string& name : names) {
    for (const auto& chunk : manifest_.tensors.at(name).chunks) needed.insert(chunk.file);
  }
  for (const std::size_t file : needed) is_checkpoint_ ? chunks_.verify(file) : chunks_.open(file);
  for (const std::string& name : names) {
    const Manifest::Tensor& tensor = manifest_.tensors.at(name);
    for (const auto& chunk : tensor.chunks) chunks_.require(name, tensor.dtype, chunk);
  }
}

void StoredTensors::read(const std::string& name, const Range& elements, const Buffer& out) const {
  const Manifest::Tensor& tensor = manifest_.tensors.at(name);
  const Region region = Region(tensor.shape).slice(elements);
  for (const Manifest::Chunk& chunk : tensor.chunks) {
    if (common_count(chunk.region, region) > 0) chunks_.read(name, chunk, region, out);
  }
}

StateSizes sizes_of(const StoredTensors& stored) {
  StateSizes sizes;
  for (const auto& [name, tensor] : stored.manifest().tensors) {
    const bool is_model = !stored.is_checkpoint() || !name_in_model(name).empty();
    StateSizes::Size& size = is_model             ? sizes.model
                             : is_optimizer(name) ? sizes.optimizer
                                                  : sizes.other;
    const std::int64_t elements = elements_of(tensor.shape);
    ++size.tensors;
    size.elements = sum_or_most(size.elements, elements, 1);
    size.bytes =
        sum_or_most(size.bytes, elements, static_cast<std::int64_t>(size_of(tensor.dtype)));
  }
  return sizes;
}

std::string name_in_model(const std::string& name) {
  return name.starts_with(kModel) ? name.substr(kModel.size()) : "";
}

}  // namespace trireme
