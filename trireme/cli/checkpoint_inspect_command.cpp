#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "trireme/base/text.h"
#include "trireme/checkpoint/stored_tensors.h"
#include "trireme/cli/checkpoint_command.h"
#include "trireme/cli/terminal.h"

namespace trireme::cli {

namespace {

using nlohmann::ordered_json;

std::string value_text(const RunState::Value& value) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    const bool is_short = text->size() <= 100 && text->find('\n') == std::string::npos;
    return is_short ? fmt::format("\"{}\"", shown(*text))
                    : fmt::format("text of {}", with_commas(std::ssize(*text), "byte"));
  }
  return std::visit([](const auto& v) { return ordered_json(v).dump(); }, value);
}

void print_state(const RunState& state) {
  if (!state.metadata.empty()) std::cout << "metadata\n";
  for (const auto& [name, text] : state.metadata) {
    std::cout << fmt::format("  {} = {}\n", shown(name), value_text(text));
  }
  for (const auto& [name, section] : state.sections) {
    std::cout << fmt::format("section {}\n", shown(name));
    for (const auto& [key, value] : section) {
      std::cout << fmt::format("  {} = {}\n", shown(key), value_text(value));
    }
  }
}

// The names of the files that hold a tensor, in their order.
std::vector<std::string> files_of(const Manifest& manifest, const Manifest::Tensor& tensor) {
  std::set<std::size_t> indices;
  for (const Manifest::Chunk& chunk : tensor.chunks) indices.insert(chunk.file);
  std::vector<std::string> names;
  for (const std::size_t index : indices) names.push_back(manifest.files[index].name);
  return names;
}

void print_tensors(const Manifest& manifest) {
  constexpr std::size_t kShownFiles = 4;
  std::cout << "tensors\n";
  for (const auto& [name, tensor] : manifest.tensors) {
    std::vector<std::string> files = files_of(manifest, tensor);
    const std::size_t more = files.size() - std::min(files.size(), kShownFiles);
    files.resize(files.size() - more);
    for (std::string& file : files) file = shown(file);
    std::cout << fmt::format(
        "  {}  {}  {}{}{}{}\n", shown(name), describe(tensor.dtype, tensor.shape),
        counted(std::ssize(tensor.chunks), "region"), files.empty() ? "" : " in ",
        fmt::join(files, ", "), more > 0 ? fmt::format(" and {} more", more) : "");
  }
}

void print_size(std::string_view what, const StateSizes::Size& size) {
  std::cout << fmt::format("{:<16} {:>20} in {}, {}\n", what, with_commas(size.elements, "element"),
                           with_commas(size.tensors, "tensor"), with_commas(size.bytes, "byte"));
}

void print_contents(const StoredTensors& stored) {
  const Manifest& manifest = stored.manifest();
  std::cout << title_of(stored) << '\n';
  print_state(manifest.state);
  std::cout << "files\n";
  std::int64_t bytes = 0;
  for (const Manifest::File& file : manifest.files) {
    std::cout << fmt::format("  {}  {}\n", shown(file.name), with_commas(file.bytes, "byte"));
    bytes += file.bytes;
  }
  print_tensors(manifest);
  const StateSizes sizes = sizes_of(stored);
  std::cout << '\n';
  print_size("model", sizes.model);
  print_size("optimizer state", sizes.optimizer);
  print_size("other", sizes.other);
  std::cout << fmt::format("{} in {}\n", with_commas(bytes, "byte"),
                           with_commas(std::ssize(manifest.files), "file"));
}

ordered_json to_json(const StateSizes::Size& size) {
  return {{"tensors", size.tensors}, {"elements", size.elements}, {"bytes", size.bytes}};
}

ordered_json to_json(const std::map<std::string, RunState::Section>& all) {
  auto sections = ordered_json::object();
  for (const auto& [name, section] : all) {
    ordered_json& values = sections[name] = ordered_json::object();
    for (const auto& [key, value] : section) {
      values[key] = std::visit([](const auto& v) { return ordered_json(v); }, value);
    }
  }
  return sections;
}

ordered_json to_json(const Manifest& manifest, const Manifest::Tensor& tensor) {
  auto regions = ordered_json::array();
  for (const Manifest::Chunk& chunk : tensor.chunks) {
    regions.push_back(
        {{"region", to_string(chunk.region)}, {"file", manifest.files[chunk.file].name}});
  }
  return {{"dtype", name_of(tensor.dtype)}, {"shape", tensor.shape}, {"regions", regions}};
}

ordered_json to_json(const StoredTensors& stored) {
  const Manifest& manifest = stored.manifest();
  ordered_json json = {{"path", stored.path().string()},
                       {"kind", stored.is_checkpoint() ? "checkpoint" : "model"}};
  if (stored.is_checkpoint()) json["step"] = manifest.state.step;
  json["metadata"] = manifest.state.metadata;
  if (stored.is_checkpoint()) json["sections"] = to_json(manifest.state.sections);
  json["files"] = ordered_json::array();
  for (const Manifest::File& file : manifest.files) {
    ordered_json entry = {{"name", file.name}, {"bytes", file.bytes}};
    if (stored.is_checkpoint()) entry["sha256"] = file.sha256;
    json["files"].push_back(entry);
  }
  json["tensors"] = ordered_json::object();
  for (const auto& [name, tensor] : manifest.tensors) {
    json["tensors"][name] = to_json(manifest, tensor);
  }
  const StateSizes sizes = sizes_of(stored);
  json["sizes"] = {{"model", to_json(sizes.model)},
                   {"optimizer", to_json(sizes.optimizer)},
                   {"other", to_json(sizes.other)}};
  return json;
}

}  // namespace

void add_checkpoint_inspect(CLI::App& checkpoint, int& exit_code) {
  struct Arguments {
    std::string path;
    bool json = false;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      checkpoint.add_subcommand("inspect", "Show what a checkpoint or a model holds");
  command->add_option("PATH", arguments->path, kCheckpointPath)->required();
  command->add_flag("--json", arguments->json, "as JSON");
  command->callback([arguments, &exit_code] {
    const StoredTensors stored(arguments->path);
    if (arguments->json) {
      std::cout << json_text(to_json(stored));
    } else {
      print_contents(stored);
    }
    exit_code = 0;
  });
}

}  // namespace trireme::cli
