#pragma once

#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "trireme/base/files.h"

namespace trireme::test {

/// The bytes of each tensor of a safetensors file, by the description of the format alone.
inline std::map<std::string, std::string> tensor_bytes(const std::filesystem::path& path,
                                                       Files& files = real_files()) {
  const std::string file = read_file(path, files);
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof(length));
  std::map<std::string, std::string> bytes;
  const nlohmann::json header = nlohmann::json::parse(file.substr(8, length));
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const std::size_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
    bytes[name] = file.substr(8 + length + begin, end - begin);
  }
  return bytes;
}

/// The same of the files that an index names, which have no other tensors.
inline std::map<std::string, std::string> tensor_bytes_by_index(const std::filesystem::path& index,
                                                                Files& files = real_files()) {
  const nlohmann::json json = nlohmann::json::parse(read_file(index, files));
  std::map<std::string, std::string> bytes;
  std::map<std::string, std::map<std::string, std::string>> parts;
  for (const auto& [tensor, file] : json["weight_map"].items()) {
    const std::string name = file.get<std::string>();
    if (!parts.contains(name)) parts[name] = tensor_bytes(index.parent_path() / name, files);
    bytes[tensor] = parts[name].at(tensor);
  }
  std::size_t tensors = 0;
  for (const auto& [file, of_file] : parts) tensors += of_file.size();
  if (tensors != bytes.size()) throw std::runtime_error("an index must name every tensor once");
  return bytes;
}

}  // namespace trireme::test
