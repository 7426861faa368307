#include "trireme/formats/idx.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "trireme/base/error.h"
#include "trireme/formats/gzip.h"

namespace trireme {

namespace {

void read_exactly(ByteSource& source, std::span<char> out, std::string_view name,
                  std::string_view what) {
  const std::size_t n = source.read(out);
  if (n < out.size()) {
    throw DataError(
        fmt::format("{}: truncated: {} must have {} bytes, got {}", name, what, out.size(), n));
  }
}

IdxType checked_type(const std::array<char, 4>& magic, std::string_view name) {
  const auto byte = [&](int i) { return static_cast<unsigned char>(magic[i]); };
  switch (byte(2)) {
    case 0x08:
    case 0x09:
    case 0x0B:
    case 0x0C:
    case 0x0D:
    case 0x0E:
      if (byte(0) == 0 && byte(1) == 0) return static_cast<IdxType>(byte(2));
  }
  throw DataError(
      fmt::format("{}: not an IDX file: must begin with 00 00, a type (08, 09, 0b, 0c, 0d, 0e) and "
                  "the number of dimensions, got {:02x} {:02x} {:02x} {:02x}",
                  name, byte(0), byte(1), byte(2), byte(3)));
}

std::vector<std::int64_t> read_shape(ByteSource& source, int dimensions, std::string_view name) {
  std::vector<std::int64_t> shape;
  for (int i = 0; i < dimensions; ++i) {
    std::array<char, 4> bytes;
    read_exactly(source, bytes, name, fmt::format("dimension {} of {}", i + 1, dimensions));
    std::uint32_t value = 0;
    for (const char c : bytes) value = value << 8 | static_cast<unsigned char>(c);
    shape.push_back(value);
  }
  return shape;
}

// The bytes of the elements, held against what the source can still give.
std::size_t checked_bytes(const IdxArray& array, const ByteSource& source, std::string_view name) {
  if (std::ranges::count(array.shape, 0) > 0) return 0;
  std::int64_t bytes = static_cast<std::int64_t>(size_of(array.type));
  bool fits = true;
  for (const std::int64_t d : array.shape) {
    if (bytes > std::numeric_limits<std::int64_t>::max() / d) fits = false;
    if (fits) bytes *= d;
  }
  if (!fits || bytes > source.at_most()) {
    throw DataError(fmt::format(
        "{}: truncated: its header says {} elements of {} in shape [{}], the file holds at most {} "
        "bytes of them",
        name, fits ? std::to_string(array.count()) : "more than 2^63", name_of(array.type),
        fmt::join(array.shape, ", "), source.at_most()));
  }
  return static_cast<std::size_t>(bytes);
}

void to_native_order(std::string& bytes, std::size_t element) {
  if (std::endian::native == std::endian::big || element == 1) return;
  for (std::size_t at = 0; at < bytes.size(); at += element) {
    std::reverse(bytes.begin() + at, bytes.begin() + at + element);
  }
}

}  // namespace

std::size_t size_of(IdxType type) {
  switch (type) {
    case IdxType::kU8:
    case IdxType::kI8:
      return 1;
    case IdxType::kI16:
      return 2;
    case IdxType::kI32:
    case IdxType::kF32:
      return 4;
    case IdxType::kF64:
      return 8;
  }
  return 0;
}

std::string_view name_of(IdxType type) {
  switch (type) {
    case IdxType::kU8:
      return "u8";
    case IdxType::kI8:
      return "i8";
    case IdxType::kI16:
      return "i16";
    case IdxType::kI32:
      return "i32";
    case IdxType::kF32:
      return "f32";
    case IdxType::kF64:
      return "f64";
  }
  return "?";
}

std::int64_t IdxArray::count() const {
  if (std::ranges::count(shape, 0) > 0) return 0;  // the others may be of any size then
  std::int64_t n = 1;
  for (const std::int64_t d : shape) n *= d;
  return n;
}

IdxArray read_idx(ByteSource& source, std::string_view name) {
  std::array<char, 4> magic;
  read_exactly(source, magic, name, "the magic number");
  IdxArray array{.type = checked_type(magic, name)};
  array.shape = read_shape(source, static_cast<unsigned char>(magic[3]), name);
  array.bytes.resize(checked_bytes(array, source, name));
  read_exactly(source, array.bytes, name,
               fmt::format("the data of shape [{}] of {}", fmt::join(array.shape, ", "),
                           name_of(array.type)));
  char extra;
  if (source.read({&extra, 1}) > 0) {
    throw DataError(
        fmt::format("{}: must end after the {} bytes of data that its header says, has more", name,
                    array.bytes.size()));
  }
  to_native_order(array.bytes, size_of(array.type));
  return array;
}

IdxArray read_idx(const std::filesystem::path& path) {
  return read_idx(*open_maybe_gzip(path), path.string());
}

}  // namespace trireme
