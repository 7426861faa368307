#include "trireme/formats/safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>

#include "trireme/base/atomic_file.h"
#include "trireme/base/error.h"
#include "trireme/base/region.h"
#include "trireme/formats/printable.h"
#include "trireme/formats/safetensors_dtype.h"

namespace trireme {

namespace {

static_assert(std::endian::native == std::endian::little, "safetensors holds little-endian values");

constexpr std::int64_t kMaxHeaderBytes = 100'000'000;  // Hugging Face's readers refuse more
constexpr std::size_t kLengthBytes = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

void check(const NamedBuffer& tensor) {
  std::int64_t count = 1;
  for (const std::int64_t d : tensor.shape) count *= d;
  if (count != tensor.values.count) {
    throw UsageError(fmt::format("safetensors: tensor {} of shape [{}] must have {} values, got {}",
                                 printable(tensor.name), fmt::join(tensor.shape, ", "), count,
                                 tensor.values.count));
  }
}

// As Hugging Face's writer orders them: the widest type first, then by name.
std::vector<const StreamedTensor*> in_file_order(std::span<const StreamedTensor> tensors) {
  std::vector<const StreamedTensor*> order;
  for (const StreamedTensor& tensor : tensors) {
    if (tensor.name == kMetadataKey) {
      throw UsageError(fmt::format("safetensors: {} cannot be a tensor's name", kMetadataKey));
    }
    order.push_back(&tensor);
  }
  std::ranges::sort(order, {}, [](const StreamedTensor* t) {
    return std::tuple(safetensors_rank(t->dtype), std::string_view(t->name));
  });
  return order;
}

std::string json_string(std::string_view text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw UsageError(fmt::format("safetensors: {} must be UTF-8", printable(text)));
  }
}

// Length and JSON, padded with spaces so that the tensors begin at a multiple of 8.
std::string header_of(std::span<const StreamedTensor* const> order,
                      const SafetensorsMetadata& metadata) {
  std::vector<std::string> entries;
  if (!metadata.empty()) {
    std::vector<std::string> texts;
    for (const auto& [key, value] : metadata) {
      texts.push_back(json_string(key) + ":" + json_string(value));
    }
    entries.push_back(fmt::format("\"{}\":{{{}}}", kMetadataKey, fmt::join(texts, ",")));
  }
  std::set<std::string_view> names;
  std::int64_t offset = 0;
  for (const StreamedTensor* tensor : order) {
    if (!names.insert(tensor->name).second) {
      throw UsageError(fmt::format("safetensors: tensor names must differ, {} comes twice",
                                   printable(tensor->name)));
    }
    const std::int64_t end = offset + bytes_of(*tensor);
    entries.push_back(fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                                  json_string(tensor->name), safetensors_name_of(tensor->dtype),
                                  fmt::join(tensor->shape, ","), offset, end));
    offset = end;
  }
  std::string json = fmt::format("{{{}}}", fmt::join(entries, ","));
  json.resize((json.size() + 7) / 8 * 8, ' ');
  if (json.size() > static_cast<std::size_t>(kMaxHeaderBytes)) {
    throw UsageError(fmt::format("safetensors: the header must have at most {} bytes, got {}",
                                 kMaxHeaderBytes, json.size()));
  }
  std::string header(kLengthBytes, '\0');
  const std::uint64_t length = json.size();
  std::memcpy(header.data(), &length, kLengthBytes);
  return header + json;
}

void write_values(const StreamedTensor& tensor, const ByteSink& write) {
  const std::int64_t bytes = bytes_of(tensor);
  std::int64_t given = 0;
  tensor.values([&](std::string_view piece) {
    given += std::ssize(piece);
    write(piece);
  });
  if (given == bytes) return;
  throw UsageError(fmt::format("safetensors: tensor {} must give its {} bytes, has given {}",
                               printable(tensor.name), bytes, given));
}

void write_pieces(std::span<const StreamedTensor> tensors, const SafetensorsMetadata& metadata,
                  const ByteSink& write) {
  const std::vector<const StreamedTensor*> order = in_file_order(tensors);
  write(header_of(order, metadata));
  for (const StreamedTensor* tensor : order) write_values(*tensor, write);
}

}  // namespace

std::int64_t bytes_of(const StreamedTensor& tensor) {
  const auto size = static_cast<std::int64_t>(size_of(tensor.dtype));
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(elements_of(tensor.shape), size, &bytes)) {
    throw UsageError(fmt::format("safetensors: tensor {} of shape [{}] is too large",
                                 printable(tensor.name), fmt::join(tensor.shape, ", ")));
  }
  return bytes;
}

std::vector<StreamedTensor> streamed(std::span<const NamedBuffer> tensors) {
  std::vector<StreamedTensor> all;
  for (const NamedBuffer& tensor : tensors) {
    check(tensor);
    const std::string_view bytes(static_cast<const char*>(tensor.values.data),
                                 tensor.values.bytes());
    all.push_back({tensor.name, tensor.values.dtype, tensor.shape,
                   [bytes](const ByteSink& write) { write(bytes); }});
  }
  return all;
}

std::string safetensors_bytes(std::span<const NamedBuffer> tensors,
                              const SafetensorsMetadata& metadata) {
  std::string bytes;
  write_pieces(streamed(tensors), metadata, [&](std::string_view piece) { bytes += piece; });
  return bytes;
}

void write_safetensors(const std::filesystem::path& path, std::span<const NamedBuffer> tensors,
                       const SafetensorsMetadata& metadata, Files& files) {
  write_safetensors(path, streamed(tensors), metadata, files);
}

void write_safetensors(const std::filesystem::path& path, std::span<const StreamedTensor> tensors,
                       const SafetensorsMetadata& metadata, Files& files) {
  AtomicFile file(path, files);
  write_pieces(tensors, metadata, [&](std::string_view piece) { file.write(piece); });
  file.commit();
}

SafetensorsFile::SafetensorsFile(std::filesystem::path path, Files& files)
    : path_(std::move(path)), file_(files.open(path_)) {
  const std::int64_t size = file_->size();
  const std::int64_t behind_length = size - static_cast<std::int64_t>(kLengthBytes);
  if (behind_length < 2) {
    throw DataError(fmt::format("{}: a safetensors file must have at least 10 bytes, got {}",
                                path_.string(), size));
  }
  std::uint64_t length = 0;
  read_at(0, {reinterpret_cast<char*>(&length), kLengthBytes});
  const std::int64_t most = std::min(behind_length, kMaxHeaderBytes);
  if (length > static_cast<std::uint64_t>(most)) {
    throw DataError(fmt::format(
        "{}: not a safetensors file, or truncated: its header must have at most {} bytes, its "
        "first 8 bytes say {}",
        path_.string(), most, length));
  }
  std::string json(length, '\0');
  read_at(kLengthBytes, json);
  data_begin_ = static_cast<std::int64_t>(kLengthBytes + length);
  header_ = parse_safetensors_header(json, size - data_begin_, path_.string());
  for (std::size_t i = 0; i < header_.tensors.size(); ++i) by_name_[header_.tensors[i].name] = i;
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const TensorInfo& tensor : header_.tensors) names.push_back(tensor.name);
  return names;
}

const TensorInfo& SafetensorsFile::info(std::string_view name) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) {
    throw DataError(fmt::format("{}: must have a tensor {}, has {} others", path_.string(),
                                printable(name), by_name_.size()));
  }
  return header_.tensors[found->second];
}

void SafetensorsFile::read(std::string_view name, Buffer out) const {
  const TensorInfo& tensor = info(name);
  if (out.count != tensor.count) {
    throw DataError(fmt::format("{}: tensor {} must have {} values, has {} in shape [{}]",
                                path_.string(), printable(name), out.count, tensor.count,
                                fmt::join(tensor.shape, ", ")));
  }
  read(name, 0, out);
}

void SafetensorsFile::read(std::string_view name, std::int64_t first, Buffer out) const {
  const TensorInfo& tensor = info(name);
  if (out.dtype != tensor.dtype) {
    throw DataError(fmt::format("{}: tensor {} must be {}, is {}", path_.string(), printable(name),
                                name_of(out.dtype), name_of(tensor.dtype)));
  }
  if (first < 0 || out.count > tensor.count || first > tensor.count - out.count) {
    throw DataError(fmt::format("{}: tensor {} must have values {} to {}, has {}", path_.string(),
                                printable(name), first, first + out.count, tensor.count));
  }
  read_at(data_begin_ + tensor.offset + first * static_cast<std::int64_t>(size_of(out.dtype)),
          {static_cast<char*>(out.data), out.bytes()});
}

std::string SafetensorsFile::bytes(std::string_view name) const {
  const TensorInfo& tensor = info(name);
  std::string bytes(static_cast<std::size_t>(tensor.count) * size_of(tensor.dtype), '\0');
  read_at(data_begin_ + tensor.offset, bytes);
  return bytes;
}

void SafetensorsFile::read_at(std::int64_t offset, std::span<char> out) const {
  const std::size_t read = file_->read(offset, out);
  if (read == out.size()) return;
  throw DataError(fmt::format("{}: was truncated while it was read: must have byte {}",
                              path_.string(), offset + static_cast<std::int64_t>(read)));
}

}  // namespace trireme
