#include "trireme/checkpoint/manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "trireme/base/error.h"
#include "trireme/checkpoint/sha256.h"

namespace trireme {

namespace {

using nlohmann::json;

constexpr std::string_view kFormat = "trireme-checkpoint";
constexpr int kVersion = 1;

DType dtype_named(std::string_view name) {
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16, DType::kI32,
                            DType::kI64, DType::kU8}) {
    if (name_of(dtype) == name) return dtype;
  }
  throw UsageError(fmt::format("unknown type \"{}\"", name));
}

json to_value(const Manifest& manifest) {
  json files = json::array();
  for (const Manifest::File& file : manifest.files) {
    files.push_back({{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  }
  json tensors = json::object();
  for (const auto& [name, tensor] : manifest.tensors) {
    json slices = json::array();
    for (const Manifest::Slice& slice : tensor.slices) {
      slices.push_back({{"file", slice.file}, {"offset", slice.offset}, {"count", slice.count}});
    }
    tensors[name] = {
        {"dtype", name_of(tensor.dtype)}, {"shape", tensor.shape}, {"slices", std::move(slices)}};
  }
  return {{"format", kFormat},         {"version", kVersion},
          {"step", manifest.step},     {"metadata", manifest.metadata},
          {"files", std::move(files)}, {"tensors", std::move(tensors)}};
}

Manifest::File file_of(const json& value) {
  return {value.at("name").get<std::string>(), value.at("bytes").get<std::int64_t>(),
          value.at("sha256").get<std::string>()};
}

Manifest::Tensor tensor_of(const json& value) {
  Manifest::Tensor tensor;
  tensor.dtype = dtype_named(value.at("dtype").get<std::string>());
  tensor.shape = value.at("shape").get<std::vector<std::int64_t>>();
  for (const json& slice : value.at("slices")) {
    tensor.slices.push_back({slice.at("file").get<std::size_t>(),
                             slice.at("offset").get<std::int64_t>(),
                             slice.at("count").get<std::int64_t>()});
  }
  return tensor;
}

Manifest of_value(const json& value) {
  if (value.at("format") != kFormat || value.at("version") != kVersion) {
    throw UsageError(fmt::format("format must be \"{}\", version {}; got {}, version {}", kFormat,
                                 kVersion, value.at("format").dump(), value.at("version").dump()));
  }
  Manifest manifest;
  manifest.step = value.at("step").get<std::int64_t>();
  manifest.metadata = value.at("metadata").get<std::map<std::string, std::string>>();
  for (const json& file : value.at("files")) manifest.files.push_back(file_of(file));
  for (const auto& [name, tensor] : value.at("tensors").items()) {
    manifest.tensors[name] = tensor_of(tensor);
  }
  return manifest;
}

// A name that stays inside the checkpoint's folder.
bool is_plain(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

void check(const std::string& name, const Manifest::Tensor& tensor, std::size_t files) {
  const std::int64_t count = tensor.count();
  std::int64_t covered = 0;
  for (const Manifest::Slice& slice : tensor.slices) {
    if (slice.file >= files || slice.count < 1 || slice.count > count - covered ||
        slice.offset != covered) {
      throw UsageError(fmt::format(
          "tensor \"{}\": a slice must begin at element {} of {}, where those before it end; got "
          "offset {}, count {}",
          name, covered, count, slice.offset, slice.count));
    }
    covered += slice.count;
  }
  if (covered != count) {
    throw UsageError(fmt::format("tensor \"{}\": no slice has elements {} to {} of {}", name,
                                 covered, count, count));
  }
}

void check(const Manifest& manifest) {
  for (const Manifest::File& file : manifest.files) {
    if (!is_plain(file.name)) {
      throw UsageError(fmt::format("\"{}\" is not the name of a file beside it", file.name));
    }
  }
  for (const auto& [name, tensor] : manifest.tensors) check(name, tensor, manifest.files.size());
}

void sort_and_drop_replicas(std::vector<Manifest::Slice>& slices) {
  const auto place = [](const Manifest::Slice& s) { return std::tuple(s.offset, s.count); };
  std::stable_sort(slices.begin(), slices.end(),
                   [&](const auto& a, const auto& b) { return place(a) < place(b); });
  const auto last = std::unique(slices.begin(), slices.end(),
                                [&](const auto& a, const auto& b) { return place(a) == place(b); });
  slices.erase(last, slices.end());
}

void add(Manifest& whole, const std::string& name, const Manifest::Tensor& part) {
  Manifest::Tensor& tensor = entry(whole, name, part.dtype, part.shape);
  for (Manifest::Slice slice : part.slices) {
    slice.file += whole.files.size();
    tensor.slices.push_back(slice);
  }
}

}  // namespace

Manifest::Tensor& entry(Manifest& manifest, const std::string& name, DType dtype,
                        std::span<const std::int64_t> shape) {
  const auto [found, is_new] = manifest.tensors.try_emplace(name);
  Manifest::Tensor& tensor = found->second;
  if (is_new) {
    tensor.dtype = dtype;
    tensor.shape.assign(shape.begin(), shape.end());
  } else if (tensor.dtype != dtype ||
             !std::equal(tensor.shape.begin(), tensor.shape.end(), shape.begin(), shape.end())) {
    throw UsageError(fmt::format("tensor \"{}\" is given as {} and as {}", name,
                                 describe(tensor.dtype, tensor.shape), describe(dtype, shape)));
  }
  return tensor;
}

std::int64_t Manifest::Tensor::count() const {
  return elements_of(shape);
}

std::int64_t elements_of(std::span<const std::int64_t> shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(count, size, &count)) {
      throw UsageError(fmt::format("[{}] is not the shape of a tensor", fmt::join(shape, ", ")));
    }
  }
  return count;
}

std::string stored_name(std::string_view tensor, const Manifest::Tensor& of,
                        const Manifest::Slice& slice) {
  if (slice.count == of.count()) return std::string(tensor);
  return fmt::format("{}[{}:{}]", tensor, slice.offset, slice.offset + slice.count);
}

std::string describe(DType dtype, std::span<const std::int64_t> shape) {
  return fmt::format("{}[{}]", name_of(dtype), fmt::join(shape, ", "));
}

Manifest merge(std::span<const Manifest> parts) {
  Manifest whole;
  whole.step = parts.front().step;
  whole.metadata = parts.front().metadata;
  for (const Manifest& part : parts) {
    for (const auto& [name, tensor] : part.tensors) add(whole, name, tensor);
    whole.files.insert(whole.files.end(), part.files.begin(), part.files.end());
  }
  for (auto& [name, tensor] : whole.tensors) sort_and_drop_replicas(tensor.slices);
  check(whole);
  return whole;
}

std::string to_json(const Manifest& manifest) {
  return to_value(manifest).dump();
}

Manifest parse_part(std::string_view text) {
  return of_value(json::parse(text));
}

std::string to_file(const Manifest& manifest) {
  const json content = to_value(manifest);
  return json{{"manifest", content}, {"sha256", sha256(content.dump())}}.dump(1) + "\n";
}

Manifest parse_manifest(std::string_view text, std::string_view file) {
  try {
    const json whole = json::parse(text);
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
    throw DataError(fmt::format("{}: not the manifest of a checkpoint: {}", file, error.what()));
  }
}

}  // namespace trireme
