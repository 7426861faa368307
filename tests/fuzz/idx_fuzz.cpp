// Any bytes as IDX, compressed or not: the result is an array of the size of its shape, or a
// DataError.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "trireme/base/error.h"
#include "trireme/formats/gzip.h"
#include "trireme/formats/idx.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const auto source = trireme::maybe_inflate(trireme::bytes_of(bytes), "fuzz.idx");
    const trireme::IdxArray array = trireme::read_idx(*source, "fuzz.idx");
    const auto elements = static_cast<std::size_t>(array.count());
    if (array.bytes.size() != elements * trireme::size_of(array.type)) std::abort();
  } catch (const trireme::DataError&) {
  }
  return 0;
}
