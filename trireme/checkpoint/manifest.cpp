#include "trireme/checkpoint/manifest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "trireme/base/error.h"
#include "trireme/checkpoint/coverage.h"

namespace trireme {

namespace {

// A name that stays inside the checkpoint's folder.
bool is_plain(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

// The sort is stable: of equal chunks, the lowest rank's stays.
void sort_and_drop_copies(std::vector<Manifest::Chunk>& chunks) {
  std::ranges::stable_sort(chunks, comes_before, &Manifest::Chunk::region);
  const auto is_copy = [](const Manifest::Chunk& a, const Manifest::Chunk& b) {
    return a.region == b.region;
  };
  chunks.erase(std::unique(chunks.begin(), chunks.end(), is_copy), chunks.end());
}

void add(Manifest& whole, const std::string& name, const Manifest::Tensor& part) {
  Manifest::Tensor& tensor = entry(whole, name, part.dtype, part.shape);
  for (Manifest::Chunk chunk : part.chunks) {
    chunk.file += whole.files.size();
    tensor.chunks.push_back(std::move(chunk));
  }
}

void add(Manifest& whole, const std::string& name, const RunState::Section& part) {
  RunState::Section& section = whole.state.sections[name];
  for (const auto& [key, value] : part) {
    if (section.try_emplace(key, value).first->second == value) continue;
    throw UsageError(
        fmt::format("save_checkpoint: ranks must agree about \"{}\" of section \"{}\"", key, name));
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
  } else if (tensor.dtype != dtype || !std::ranges::equal(tensor.shape, shape)) {
    throw UsageError(fmt::format("tensor \"{}\" is given as {} and as {}", name,
                                 describe(tensor.dtype, tensor.shape), describe(dtype, shape)));
  }
  return tensor;
}

std::string stored_name(std::string_view tensor, const Region& region) {
  return std::string(tensor) + to_string(region);
}

std::string describe(DType dtype, std::span<const std::int64_t> shape) {
  return fmt::format("{}[{}]", name_of(dtype), fmt::join(shape, ", "));
}

void check(const Manifest& manifest) {
  for (const Manifest::File& file : manifest.files) {
    if (!is_plain(file.name)) {
      throw UsageError(fmt::format("\"{}\" is not the name of a file beside it", file.name));
    }
  }
  for (const auto& [name, tensor] : manifest.tensors) {
    std::vector<const Region*> regions;
    for (const Manifest::Chunk& chunk : tensor.chunks) {
      if (chunk.file >= manifest.files.size()) {
        throw UsageError(fmt::format("tensor \"{}\": a chunk's file must be one of {}, got {}",
                                     name, manifest.files.size(), chunk.file));
      }
      regions.push_back(&chunk.region);
    }
    require_exact_cover(name, tensor.shape, std::move(regions));
  }
}

Manifest merge(std::span<const Manifest> parts) {
  Manifest whole;
  whole.state.step = parts.front().state.step;
  whole.state.metadata = parts.front().state.metadata;
  for (const Manifest& part : parts) {
    for (const auto& [name, section] : part.state.sections) add(whole, name, section);
    for (const auto& [name, tensor] : part.tensors) add(whole, name, tensor);
    whole.files.insert(whole.files.end(), part.files.begin(), part.files.end());
  }
  for (auto& [name, tensor] : whole.tensors) sort_and_drop_copies(tensor.chunks);
  check(whole);
  return whole;
}

}  // namespace trireme
