#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/formats/byte_source.h"

namespace trireme {

/// Element types of IDX, by their code in the file.
enum class IdxType : std::uint8_t {
  kU8 = 0x08,
  kI8 = 0x09,
  kI16 = 0x0B,
  kI32 = 0x0C,
  kF32 = 0x0D,
  kF64 = 0x0E,
};

/// Bytes of one element.
std::size_t size_of(IdxType type);

/// "u8", "i8", "i16", "i32", "f32", "f64".
std::string_view name_of(IdxType type);

/// The array that an IDX file holds: the format of MNIST and its relatives (LeCun, "The MNIST
/// database"): two zero bytes, a type, the number of dimensions, the dimensions as big-endian
/// 32-bit numbers, the elements in row-major order, big-endian.
struct IdxArray {
  IdxType type = IdxType::kU8;
  std::vector<std::int64_t> shape;
  std::string bytes;  ///< the elements in this machine's byte order

  std::int64_t count() const;
};

/// The array in the file at `path`, which may be compressed with gzip.
/// Throws DataError on a wrong magic number, a file that is shorter or longer than its header says,
/// and damaged gzip data. A size that the file cannot hold is refused before memory is taken for
/// it.
IdxArray read_idx(const std::filesystem::path& path);

/// The same from uncompressed bytes. `name` is the file's in errors.
IdxArray read_idx(ByteSource& source, std::string_view name);

}  // namespace trireme
