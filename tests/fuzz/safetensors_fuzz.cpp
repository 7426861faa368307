// The JSON of a safetensors header before 64 bytes of data: tensors that cover exactly these bytes
// in order, or a DataError.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "trireme/base/error.h"
#include "trireme/formats/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::int64_t kDataBytes = 64;
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  try {
    const auto header = trireme::parse_safetensors_header(json, kDataBytes, "fuzz.safetensors");
    std::int64_t end = 0;
    for (const trireme::TensorInfo& tensor : header.tensors) {
      if (tensor.offset != end || tensor.count < 0) std::abort();
      end += tensor.count * static_cast<std::int64_t>(trireme::size_of(tensor.dtype));
    }
    if (end != kDataBytes) std::abort();
  } catch (const trireme::DataError&) {
  }
  return 0;
}
