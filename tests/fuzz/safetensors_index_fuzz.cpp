// An index of safetensors files: tensors in files beside it, or a DataError.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "trireme/base/error.h"
#include "trireme/formats/safetensors_index.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  try {
    const auto places = trireme::parse_safetensors_index(json, "fuzz.index.json");
    if (places.empty()) std::abort();
    for (const auto& [tensor, file] : places) {
      if (file.empty() || file.find('/') != std::string::npos) std::abort();
    }
  } catch (const trireme::DataError&) {
  }
  return 0;
}
