#include "trireme/formats/safetensors_index.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "trireme/base/error.h"
#include "trireme/formats/json_limits.h"
#include "trireme/formats/printable.h"

namespace trireme {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEnding = ".index.json";

// An index must not lead to other folders.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

}  // namespace

std::map<std::string, std::string> parse_safetensors_index(std::string_view json,
                                                           std::string_view name) {
  const auto refuse = [&](const std::string& what) {
    throw DataError(fmt::format("{}: {}", name, what));
  };
  constexpr JsonLimits kLimits{.bytes = std::size_t{64} << 20, .depth = 8, .values = 4'000'000};
  check_json_limits(json, kLimits, name);
  const nlohmann::json index = nlohmann::json::parse(json, nullptr, false);
  if (!index.is_object()) refuse("must be a JSON object, is none");
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object() || map->empty()) {
    refuse("must have \"weight_map\", an object of tensor names to file names, has none");
  }
  std::map<std::string, std::string> places;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !is_plain_name(file.get<std::string>())) {
      refuse(fmt::format(
          "tensor {} must be in a file beside the index, got {}", printable(tensor),
          printable(file.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace))));
    }
    places.emplace(tensor, file.get<std::string>());
  }
  return places;
}

bool is_safetensors_index(const fs::path& path) {
  return path.string().ends_with(kEnding);
}

fs::path safetensors_index_of(const fs::path& model) {
  fs::path index = model;
  return index += kEnding;
}

fs::path safetensors_file_or_index(const fs::path& model, Files& files) {
  if (is_safetensors_index(model) || files.kind_of(model) != FileKind::kNone) return model;
  const fs::path index = safetensors_index_of(model);
  return files.kind_of(index) == FileKind::kNone ? model : index;
}

std::vector<fs::path> safetensors_files(const fs::path& path, Files& files) {
  const fs::path found = safetensors_file_or_index(path, files);
  if (!is_safetensors_index(found)) return {found};
  std::set<std::string> names;
  for (const auto& [tensor, file] :
       parse_safetensors_index(read_file(found, files), found.string())) {
    names.insert(file);
  }
  std::vector<fs::path> paths{found};
  for (const std::string& name : names) paths.push_back(found.parent_path() / name);
  return paths;
}

SafetensorsFiles::SafetensorsFiles(const fs::path& path, Files& files)
    : path_(safetensors_file_or_index(path, files)) {
  if (!is_safetensors_index(path_)) {
    files_.emplace_back(path_, files);
    for (std::string& name : files_.front().names()) places_.emplace(std::move(name), 0);
    return;
  }
  std::map<std::string, std::size_t> known;
  for (const auto& [tensor, file] :
       parse_safetensors_index(read_file(path_, files), path_.string())) {
    const auto [place, is_new] = known.try_emplace(file, files_.size());
    if (is_new) files_.emplace_back(path_.parent_path() / file, files);
    if (!files_[place->second].contains(tensor)) {
      throw DataError(fmt::format("{}: tensor {} must be in {}, which has none of this name",
                                  path_.string(), printable(tensor),
                                  (path_.parent_path() / file).string()));
    }
    places_.emplace(tensor, place->second);
  }
}

std::vector<std::string> SafetensorsFiles::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : places_) names.push_back(name);
  return names;
}

const SafetensorsFile& SafetensorsFiles::file_of(std::string_view name) const {
  const auto place = places_.find(name);
  if (place == places_.end()) {
    throw DataError(fmt::format("{}: there is no tensor {}", path_.string(), printable(name)));
  }
  return files_[place->second];
}

}  // namespace trireme
