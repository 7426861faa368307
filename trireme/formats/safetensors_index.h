#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/formats/safetensors.h"

namespace trireme {

/// Which file holds which tensor: Hugging Face's model.safetensors.index.json, for models in
/// several files. Reads its JSON; `name` begins errors. Throws DataError unless it has a
/// "weight_map" of tensor names to names of files that lie beside the index.
std::map<std::string, std::string> parse_safetensors_index(std::string_view json,
                                                           std::string_view name);

/// Returns true for a name that ends in ".index.json".
bool is_safetensors_index(const std::filesystem::path& path);
/// "model.safetensors.index.json" of "model.safetensors".
std::filesystem::path safetensors_index_of(const std::filesystem::path& model);

/// What holds the tensors of `model`: the file itself, also if there is an index beside it; or,
/// where there is no such file, its index. `model` may be an index. `model` if there is neither.
std::filesystem::path safetensors_file_or_index(const std::filesystem::path& model,
                                                Files& files = real_files());

/// The files that SafetensorsFiles(path) reads, the index first.
std::vector<std::filesystem::path> safetensors_files(const std::filesystem::path& path,
                                                     Files& files = real_files());

/// The tensors of a safetensors file, or of all files of an index, whose name ends in
/// ".index.json". Headers are read at once, tensors when asked for. Threads may share it.
class SafetensorsFiles {
 public:
  /// Opens safetensors_file_or_index(path). Throws DataError if a file is missing or damaged or
  /// lacks a tensor that the index has.
  explicit SafetensorsFiles(const std::filesystem::path& path, Files& files = real_files());

  std::vector<std::string> names() const;
  bool contains(std::string_view name) const { return places_.contains(name); }
  /// Returns the file that holds a tensor.
  const std::filesystem::path& path_of(std::string_view name) const { return file_of(name).path(); }
  /// Of the first file.
  const SafetensorsMetadata& metadata() const { return files_.front().metadata(); }

  // As SafetensorsFile.
  const TensorInfo& info(std::string_view name) const { return file_of(name).info(name); }
  void read(std::string_view name, Buffer out) const { file_of(name).read(name, out); }
  std::string bytes(std::string_view name) const { return file_of(name).bytes(name); }

 private:
  const SafetensorsFile& file_of(std::string_view name) const;

  std::filesystem::path path_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, std::size_t, std::less<>> places_;  // in files_
};

}  // namespace trireme
