#include "trireme/formats/safetensors_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "trireme/base/error.h"
#include "trireme/formats/printable.h"
#include "trireme/formats/safetensors_index.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

using Part = std::span<const StreamedTensor>;

std::vector<Part> parts_of(std::span<const StreamedTensor> tensors, std::int64_t part_bytes) {
  std::vector<Part> parts;
  std::size_t begin = 0;
  std::int64_t room = part_bytes;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::int64_t bytes = bytes_of(tensors[i]);
    if (part_bytes > 0 && i > begin && bytes > room) {
      parts.push_back(tensors.subspan(begin, i - begin));
      begin = i;
      room = part_bytes;
    }
    room -= bytes;
  }
  parts.push_back(tensors.subspan(begin));
  return parts;
}

// Removes digits from the front and returns how many there were.
std::size_t drop_digits(std::string_view& text) {
  const std::size_t count = std::min(text.find_first_not_of("0123456789"), text.size());
  text.remove_prefix(count);
  return count;
}

bool drop(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// model-00001-of-00002.safetensors, model.2-00001-of-00002.safetensors
bool is_part(std::string_view name, const fs::path& model) {
  constexpr std::size_t kDigits = 5;
  if (!drop(name, model.stem().string())) return false;
  if (drop(name, ".") && drop_digits(name) == 0) return false;
  if (!drop(name, "-") || drop_digits(name) < kDigits) return false;
  if (!drop(name, "-of-") || drop_digits(name) < kDigits) return false;
  return name == model.extension().string();
}

std::string part_name(const fs::path& model, int attempt, std::size_t part, std::size_t parts) {
  return fmt::format("{}{}-{:05}-of-{:05}{}", model.stem().string(),
                     attempt == 1 ? "" : fmt::format(".{}", attempt), part + 1, parts,
                     model.extension().string());
}

// Names that no file has.
std::vector<std::string> new_part_names(const fs::path& model, std::size_t parts, Files& files) {
  for (int attempt = 1;; ++attempt) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < parts; ++i) names.push_back(part_name(model, attempt, i, parts));
    const bool are_new = std::ranges::all_of(names, [&](const std::string& name) {
      return files.kind_of(model.parent_path() / name) == FileKind::kNone;
    });
    if (are_new) return names;
  }
}

// The parts that the index of the model names; none if there is no index.
std::vector<fs::path> indexed_parts(const fs::path& model, Files& files) {
  const fs::path index = safetensors_index_of(model);
  if (files.kind_of(index) == FileKind::kNone) return {};
  require_file(index, files);
  std::vector<fs::path> parts = safetensors_files(index, files);
  std::erase_if(parts,
                [&](const fs::path& path) { return !is_part(path.filename().string(), model); });
  return parts;
}

// The same; none if the index is damaged.
std::vector<fs::path> readable_parts(const fs::path& model, Files& files) {
  try {
    return indexed_parts(model, files);
  } catch (const DataError&) {
    return {};
  }
}

// As far as possible: what is left harms no reader.
void try_to_remove(const std::vector<fs::path>& paths, Files& files) {
  for (const fs::path& path : paths) {
    try {
      files.remove(path);
    } catch (const DataError&) {
      // remove_unused_parts() tries again.
    }
  }
}

std::string index_of(const std::vector<Part>& parts, const std::vector<std::string>& names) {
  std::int64_t bytes = 0;
  std::map<std::string, std::string> places;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    for (const StreamedTensor& tensor : parts[i]) {
      bytes += bytes_of(tensor);
      if (places.emplace(tensor.name, names[i]).second) continue;
      throw UsageError(fmt::format("safetensors: tensor names must differ, {} comes twice",
                                   printable(tensor.name)));
    }
  }
  const nlohmann::json index = {{"metadata", {{"total_size", bytes}}}, {"weight_map", places}};
  try {
    return index.dump(2) + "\n";
  } catch (const nlohmann::json::exception&) {
    throw UsageError("safetensors: the names of tensors must be UTF-8");
  }
}

void sync_directory_of(const fs::path& path, Files& files) {
  files.sync_directory(path.has_parent_path() ? path.parent_path() : ".");
}

// What could not be finished. Its index may be in place even so, and not yet synced.
void remove_unless_indexed(const std::vector<fs::path>& parts, const fs::path& model,
                           Files& files) {
  try {
    const std::vector<fs::path> used = indexed_parts(model, files);
    if (std::ranges::find(used, parts.front()) == used.end()) try_to_remove(parts, files);
  } catch (const DataError&) {
    // They may be used.
  }
}

void write_parts(const fs::path& path, const std::vector<Part>& parts,
                 const SafetensorsMetadata& metadata, Files& files) {
  if (files.kind_of(path) != FileKind::kNone) require_file(path, files);
  const std::vector<std::string> names = new_part_names(path, parts.size(), files);
  const std::string index = index_of(parts, names);
  std::vector<fs::path> written;
  try {
    for (std::size_t i = 0; i < parts.size(); ++i) {
      written.push_back(path.parent_path() / names[i]);
      write_safetensors(written.back(), parts[i], metadata, files);
    }
    write_file_atomically(safetensors_index_of(path), index, files);
  } catch (...) {
    remove_unless_indexed(written, path, files);
    throw;
  }
  files.remove(path);
  sync_directory_of(path, files);
}

}  // namespace

void write_safetensors_model(const fs::path& path, std::span<const NamedBuffer> tensors,
                             const SafetensorsMetadata& metadata, std::int64_t part_bytes,
                             Files& files) {
  write_safetensors_model(path, streamed(tensors), metadata, part_bytes, files);
}

void write_safetensors_model(const fs::path& path, std::span<const StreamedTensor> tensors,
                             const SafetensorsMetadata& metadata, std::int64_t part_bytes,
                             Files& files) {
  if (is_safetensors_index(path)) {
    throw UsageError(fmt::format(
        "{}: a model must be written under the name of its file, such as model.safetensors, got "
        "that of an index; the index has its name from it",
        path.string()));
  }
  const std::vector<Part> parts = parts_of(tensors, part_bytes);
  const std::vector<fs::path> replaced = readable_parts(path, files);
  if (parts.size() > 1) {
    write_parts(path, parts, metadata, files);
  } else {
    write_safetensors(path, tensors, metadata, files);
    try_to_remove({safetensors_index_of(path)}, files);
  }
  try_to_remove(replaced, files);
}

bool is_of_safetensors_model(std::string_view name, std::string_view model) {
  return name == safetensors_index_of(model).string() || is_part(name, model);
}

std::vector<fs::path> safetensors_model_files(const fs::path& path, Files& files) {
  std::vector<fs::path> found;
  for (const fs::path& file : {safetensors_index_of(path), path}) {
    if (files.kind_of(file) != FileKind::kNone) found.push_back(file);
  }
  const fs::path directory = path.has_parent_path() ? path.parent_path() : ".";
  for (const std::string& name : files.names_in(directory)) {
    const fs::path part = path.parent_path() / name;
    if (is_part(name, path) && files.kind_of(part) == FileKind::kFile) found.push_back(part);
  }
  return found;
}

void remove_unused_parts(const fs::path& path, Files& files) {
  std::vector<fs::path> used;
  if (files.kind_of(path) != FileKind::kNone) {
    used = {path};
  } else {
    try {
      used = indexed_parts(path, files);
    } catch (const DataError&) {
      return;
    }
    used.push_back(safetensors_index_of(path));
  }
  for (const fs::path& file : safetensors_model_files(path, files)) {
    if (std::ranges::find(used, file) == used.end()) files.remove(file);
  }
}

}  // namespace trireme
