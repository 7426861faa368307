#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "trireme/base/error.h"
#include "trireme/base/sha256.h"
#include "trireme/checkpoint/manifest.h"
#include "trireme/formats/json_error.h"

namespace trireme {

namespace {

using nlohmann::json;

constexpr std::string_view kFormat = "trireme-checkpoint";
constexpr int kVersion = 2;

DType dtype_named(std::string_view name) {
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16, DType::kI32,
                            DType::kI64, DType::kU8}) {
    if (name_of(dtype) == name) return dtype;
  }
  throw UsageError(fmt::format("unknown type \"{}\"", name));
}

// Its own functions recurse: a text that is nested without end must not end the program.
json parse_json(std::string_view text) {
  constexpr int kMaxDepth = 16;
  // The parser takes a byte of zero for the end of the text.
  if (const std::size_t zero = text.find('\0'); zero != text.npos) {
    throw UsageError(fmt::format("it has a byte of zero, byte {}", zero + 1));
  }
  return json::parse(text, [](int depth, json::parse_event_t, json&) {
    if (depth > kMaxDepth) throw UsageError("it is nested more deeply than a manifest is");
    return true;
  });
}

// The library's own conversion would round and wrap.
std::int64_t integer_of(const json& value) {
  const bool fits = value.is_number_unsigned()
                        ? value.get<std::uint64_t>() <= std::numeric_limits<std::int64_t>::max()
                        : value.is_number_integer();
  if (!fits) throw UsageError(fmt::format("must be an integer of 64 bits, got {}", value.dump()));
  return value.get<std::int64_t>();
}

const json& object_of(const json& value) {
  if (!value.is_object()) throw UsageError(fmt::format("must be an object, got {}", value.dump()));
  return value;
}

std::vector<std::int64_t> integers_of(const json& value) {
  if (!value.is_array()) throw UsageError(fmt::format("must be a list, got {}", value.dump()));
  std::vector<std::int64_t> integers;
  for (const json& element : value) integers.push_back(integer_of(element));
  return integers;
}

json to_value(const Range& range) {
  return json::array({range.begin, range.end});
}

Range range_of(const json& value) {
  const std::vector<std::int64_t> ends = integers_of(value);
  if (ends.size() != 2) {
    throw UsageError(fmt::format("a range must be [begin, end], got {}", value.dump()));
  }
  return {ends[0], ends[1]};
}

json to_value(const RunState::Value& value) {
  if (const double* number = std::get_if<double>(&value); number && !std::isfinite(*number)) {
    throw UsageError(fmt::format("save_checkpoint: a section cannot hold {}", *number));
  }
  return std::visit([](const auto& v) { return json(v); }, value);
}

RunState::Value section_value_of(const json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return value.get<double>();
  return integer_of(value);
}

json to_value(const std::map<std::string, RunState::Section>& all) {
  json sections = json::object();
  for (const auto& [name, section] : all) {
    json& values = sections[name] = json::object();
    for (const auto& [key, value] : section) values[key] = to_value(value);
  }
  return sections;
}

std::map<std::string, RunState::Section> sections_of(const json& value) {
  std::map<std::string, RunState::Section> sections;
  for (const auto& [name, values] : object_of(value).items()) {
    RunState::Section& section = sections[name];
    for (const auto& [key, content] : object_of(values).items())
      section[key] = section_value_of(content);
  }
  return sections;
}

// Parts that do not say more than their default are left out: of a whole tensor, all but the file.
json to_value(const Manifest::Chunk& chunk) {
  json value = {{"file", chunk.file}};
  for (const Cut& cut : chunk.region.cuts()) {
    json kept = json::array();
    for (const Range& range : cut.kept) kept.push_back(to_value(range));
    value["cuts"].push_back({{"dim", cut.dim}, {"kept", std::move(kept)}});
  }
  if (chunk.region.is_slice()) value["range"] = to_value(chunk.region.range());
  return value;
}

Cut cut_of(const json& value, const TensorShape& shape) {
  const std::int64_t dim = integer_of(value.at("dim"));
  if (dim < 0 || dim >= std::ssize(shape)) {
    throw UsageError(fmt::format("a cut's dimension must be one of {}, got {}", shape.size(), dim));
  }
  Cut cut{.dim = static_cast<int>(dim), .kept = {}};
  for (const json& range : value.at("kept")) cut.kept.push_back(range_of(range));
  return cut;
}

std::size_t file_index_of(const json& value) {
  const std::int64_t file = integer_of(value.at("file"));
  if (file < 0) throw UsageError(fmt::format("a chunk's file must not be negative, got {}", file));
  return static_cast<std::size_t>(file);
}

Manifest::Chunk chunk_of(const json& value, const TensorShape& shape) {
  std::vector<Cut> cuts;
  if (value.contains("cuts")) {
    for (const json& cut : value["cuts"]) cuts.push_back(cut_of(cut, shape));
  }
  Region region(shape, std::move(cuts));
  if (value.contains("range")) region = region.slice(range_of(value["range"]));
  return {file_index_of(value), std::move(region)};
}

// Format 1: elements [offset, offset + count) of the flattened tensor.
Manifest::Chunk slice_of(const json& value, const TensorShape& shape) {
  const Region whole(shape);
  const std::int64_t offset = integer_of(value.at("offset"));
  const std::int64_t count = integer_of(value.at("count"));
  if (offset < 0 || count < 1 || offset > whole.count() - count) {
    throw UsageError(fmt::format("a slice must lie in {} elements, got offset {}, count {}",
                                 whole.count(), offset, count));
  }
  return {file_index_of(value), whole.slice({offset, offset + count})};
}

Manifest::Tensor tensor_of(const json& value, std::int64_t version) {
  Manifest::Tensor tensor;
  tensor.dtype = dtype_named(value.at("dtype").get<std::string>());
  tensor.shape = integers_of(value.at("shape"));
  elements_of(tensor.shape);
  for (const json& part : value.at(version == 1 ? "slices" : "chunks")) {
    tensor.chunks.push_back(version == 1 ? slice_of(part, tensor.shape)
                                         : chunk_of(part, tensor.shape));
  }
  return tensor;
}

json to_value(const Manifest& manifest) {
  json files = json::array();
  for (const Manifest::File& file : manifest.files) {
    files.push_back({{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  }
  json tensors = json::object();
  for (const auto& [name, tensor] : manifest.tensors) {
    json chunks = json::array();
    for (const Manifest::Chunk& chunk : tensor.chunks) chunks.push_back(to_value(chunk));
    tensors[name] = {
        {"dtype", name_of(tensor.dtype)}, {"shape", tensor.shape}, {"chunks", std::move(chunks)}};
  }
  return {{"format", kFormat},
          {"version", kVersion},
          {"step", manifest.state.step},
          {"metadata", manifest.state.metadata},
          {"sections", to_value(manifest.state.sections)},
          {"files", std::move(files)},
          {"tensors", std::move(tensors)}};
}

Manifest::File file_of(const json& value) {
  return {value.at("name").get<std::string>(), integer_of(value.at("bytes")),
          value.at("sha256").get<std::string>()};
}

std::int64_t version_of(const json& value) {
  const json& version = value.at("version");
  if (value.at("format") == kFormat && (version == 1 || version == 2)) return version;
  throw UsageError(
      fmt::format("format must be \"{}\", version 1 or {}; got {}, version {}; read it with the "
                  "program that wrote it",
                  kFormat, kVersion, value.at("format").dump(), version.dump()));
}

Manifest of_value(const json& value) {
  const std::int64_t version = version_of(value);
  Manifest manifest;
  manifest.state.step = integer_of(value.at("step"));
  manifest.state.metadata = value.at("metadata").get<std::map<std::string, std::string>>();
  if (value.contains("sections")) manifest.state.sections = sections_of(value["sections"]);
  for (const json& file : value.at("files")) manifest.files.push_back(file_of(file));
  for (const auto& [name, tensor] : object_of(value.at("tensors")).items()) {
    try {
      manifest.tensors[name] = tensor_of(tensor, version);
    } catch (const UsageError& error) {
      throw UsageError(fmt::format("tensor \"{}\": {}", name, error.what()));
    }
  }
  return manifest;
}

}  // namespace

std::string to_json(const Manifest& manifest) {
  return to_value(manifest).dump();
}

Manifest parse_part(std::string_view text) {
  try {
    return of_value(parse_json(text));
  } catch (const json::exception& error) {
    throw UsageError(fmt::format("not the part of a manifest: {}", reason_of(error)));
  }
}

std::string to_file(const Manifest& manifest) {
  const json content = to_value(manifest);
  return json{{"manifest", content}, {"sha256", sha256(content.dump())}}.dump(1) + "\n";
}

Manifest parse_manifest(std::string_view text, std::string_view file) {
  try {
    const json whole = parse_json(text);
    const json& content = whole.at("manifest");
    if (whole.at("sha256") != sha256(content.dump())) {
      throw UsageError("its SHA-256 is not the one that it names");
    }
    Manifest manifest = of_value(content);
    check(manifest);
    return manifest;
  } catch (const UsageError& error) {
    throw DataError(fmt::format("{}: {}", file, error.what()));
  } catch (const json::exception& error) {
    throw DataError(
        fmt::format("{}: not the manifest of a checkpoint: {}", file, reason_of(error)));
  }
}

}  // namespace trireme
