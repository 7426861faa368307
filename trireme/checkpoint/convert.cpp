#include "trireme/checkpoint/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/base/partition.h"
#include "trireme/checkpoint/pieces.h"
#include "trireme/checkpoint/step_folder.h"
#include "trireme/checkpoint/stored_tensors.h"
#include "trireme/formats/safetensors_index.h"
#include "trireme/formats/safetensors_model.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

constexpr int kMaxFiles = 4096;

// Elements of a tensor, to be written as `name`.
StreamedTensor streamed(const StoredTensors& from, const std::string& tensor, const Range& elements,
                        std::string name, TensorShape shape) {
  const DType dtype = from.manifest().tensors.at(tensor).dtype;
  return {std::move(name), dtype, std::move(shape),
          [&from, &tensor, elements, dtype](const ByteSink& write) {
            PieceBuffer memory;
            for (const Range& piece : pieces_of(elements, dtype)) {
              const Buffer values = memory.buffer(piece.size(), dtype);
              from.read(tensor, piece, values);
              write({static_cast<const char*>(values.data), values.bytes()});
            }
          }};
}

// The names that `from` has for the tensors of its model.
std::vector<std::string> tensors_of_model(const StoredTensors& from) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : from.manifest().tensors) {
    if (!from.is_checkpoint() || !name_in_model(name).empty()) names.push_back(name);
  }
  if (names.empty()) {
    throw UsageError(fmt::format("convert: {} has no tensor \"model.NAME\", and so no model",
                                 from.path().string()));
  }
  return names;
}

void write_model(StoredTensors& from, const fs::path& to, std::int64_t file_bytes, Files& files) {
  const std::vector<std::string> names = tensors_of_model(from);
  from.verify(names);
  std::vector<StreamedTensor> tensors;
  for (const std::string& name : names) {
    const TensorShape& shape = from.manifest().tensors.at(name).shape;
    tensors.push_back(streamed(from, name, {0, elements_of(shape)},
                               from.is_checkpoint() ? name_in_model(name) : name, shape));
  }
  SafetensorsMetadata metadata;
  if (!from.is_checkpoint()) metadata = from.manifest().state.metadata;
  metadata.emplace("format", "pt");
  make_directories(to.parent_path(), files);
  write_safetensors_model(to, tensors, metadata, file_bytes, files);
}

// Where a tensor lies if all tensors lie one behind the other, in the order of their names.
struct Placed {
  const std::string* name = nullptr;
  const Manifest::Tensor* tensor = nullptr;
  std::int64_t begin = 0;  ///< in bytes

  std::int64_t element_bytes() const { return static_cast<std::int64_t>(size_of(tensor->dtype)); }
  std::int64_t count() const { return elements_of(tensor->shape); }
  std::int64_t end() const { return begin + count() * element_bytes(); }
  // How many of its elements begin before that byte.
  std::int64_t elements_before(std::int64_t byte) const {
    const std::int64_t bytes = std::clamp(byte, begin, end()) - begin;
    return (bytes + element_bytes() - 1) / element_bytes();
  }
};

std::vector<Placed> placed(const Manifest& manifest) {
  std::vector<Placed> all;
  std::int64_t begin = 0;
  for (const auto& [name, tensor] : manifest.tensors) {
    all.push_back({&name, &tensor, begin});
    begin = all.back().end();
  }
  return all;
}

// Writes the elements that begin in `bytes` of all tensors and lists them in `whole`.
void write_file(const StoredTensors& from, const std::vector<Placed>& all, const Range& bytes,
                const fs::path& folder, Manifest& whole, Files& files) {
  std::vector<StreamedTensor> tensors;
  for (const Placed& at : all) {
    const Range elements{at.elements_before(bytes.begin), at.elements_before(bytes.end)};
    if (elements.size() == 0) continue;
    const Region region = Region(at.tensor->shape).slice(elements);
    tensors.push_back(
        streamed(from, *at.name, elements, stored_name(*at.name, region), region.local_shape()));
    whole.tensors.at(*at.name).chunks.push_back({whole.files.size(), region});
  }
  if (tensors.empty()) return;
  const std::string name = fmt::format("rank-{}.safetensors", whole.files.size());
  write_safetensors(folder / name, tensors, {}, files);
  whole.files.push_back(described_file(folder, name, files));
}

void write_checkpoint(StoredTensors& from, const StepFolder& folder, int count, Files& files) {
  std::vector<std::string> names;
  Manifest whole;
  whole.state = from.manifest().state;
  for (const auto& [name, tensor] : from.manifest().tensors) {
    names.push_back(name);
    entry(whole, name, tensor.dtype, tensor.shape);
  }
  // Opens all files: begin() may rename a folder that was being replaced, which is `from`.
  from.verify(names);
  const std::vector<Placed> all = placed(from.manifest());
  const std::int64_t bytes = all.empty() ? 0 : all.back().end();
  try {
    folder.begin();
    for (int i = 0; i < count; ++i) {
      write_file(from, all, partition(bytes, count, i), folder.partial(), whole, files);
    }
    check(whole);
    write_file_atomically(folder.partial() / "manifest.json", to_file(whole), files);
    folder.publish();
  } catch (...) {
    folder.abandon();
    throw;
  }
}

bool is_model(const fs::path& to) {
  return to.extension() == ".safetensors";
}

void require_absent(const fs::path& to, bool overwrite, Files& files) {
  const bool is_there =
      files.kind_of(to) != FileKind::kNone ||
      (is_model(to) && files.kind_of(safetensors_index_of(to)) != FileKind::kNone);
  if (!is_there || overwrite) return;
  throw UsageError(fmt::format(
      "convert: {} exists already; write elsewhere, or overwrite it by --overwrite", to.string()));
}

// Throws unless `to` can be a checkpoint of `from`.
void require_step_folder(const fs::path& to, const StoredTensors& from, Files& files) {
  if (!from.is_checkpoint()) {
    throw UsageError(fmt::format(
        "convert: {} is a model, which lacks what a checkpoint needs: the result must end in "
        ".safetensors, got {}; a run starts with a model by model.weights",
        from.path().string(), to.string()));
  }
  const std::int64_t step = from.manifest().state.step;
  const FileKind kind = files.kind_of(to);
  if (kind != FileKind::kNone && kind != FileKind::kDirectory) {
    throw UsageError(fmt::format("convert: {} must be a folder, is none", to.string()));
  }
  if (step_of_folder(to.filename().string()) == step) return;
  throw UsageError(fmt::format(
      "convert: the result must be a model, NAME.safetensors, or the folder of a checkpoint, "
      "step-{}, got {}",
      step, to.string()));
}

void check(const ConvertOptions& options, bool to_model) {
  if (options.files < 1 || options.files > kMaxFiles || options.file_bytes < 0) {
    throw UsageError(fmt::format(
        "convert: files must be 1 to {} and the bytes of a file not negative, got {} and {}",
        kMaxFiles, options.files, options.file_bytes));
  }
  if (to_model && options.files > 1) {
    throw UsageError(
        "convert: a number of files is for a checkpoint; a model is cut by the bytes of a file");
  }
  if (!to_model && options.file_bytes > 0) {
    throw UsageError(
        "convert: the bytes of a file are for a model; a checkpoint is cut by the number of files");
  }
}

}  // namespace

void convert_checkpoint(const fs::path& from, const fs::path& to, const ConvertOptions& options,
                        Files& files) {
  const fs::path target = to.has_filename() ? to : to.parent_path();
  check(options, is_model(target));
  StoredTensors stored(from, files);
  if (!is_model(target)) require_step_folder(target, stored, files);
  require_absent(target, options.overwrite, files);
  if (is_model(target)) {
    write_model(stored, target, options.file_bytes, files);
  } else {
    const fs::path directory = target.has_parent_path() ? target.parent_path() : ".";
    write_checkpoint(stored, StepFolder(directory, stored.manifest().state.step, files),
                     options.files, files);
  }
}

}  // namespace trireme
