// An index and the file beside it, from any bytes: tensors that can be read, or a DataError, which
// names one of the two. The input is the text of the index, a byte of zero, and the file; there is
// no second file.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "tests/base/memory_files.h"
#include "trireme/base/error.h"
#include "trireme/formats/safetensors_index.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string all(reinterpret_cast<const char*>(data), size);
  const std::size_t zero = all.find('\0');
  if (zero == std::string::npos) return 0;
  trireme::test::MemoryFiles files;
  files.make_directory("/m");
  files.create("/m/a.index.json", "")->append(all.substr(0, zero));
  files.create("/m/a", "")->append(all.substr(zero + 1));
  try {
    const trireme::SafetensorsFiles model("/m/a.index.json", files);
    for (const std::string& name : model.names()) {
      const trireme::TensorInfo& info = model.info(name);
      const std::string bytes = model.bytes(name);
      if (bytes.size() != static_cast<std::size_t>(info.count) * size_of(info.dtype)) std::abort();
      if (model.path_of(name) != "/m/a") std::abort();
    }
  } catch (const trireme::DataError& error) {
    if (std::string(error.what()).find("/m/") != 0) std::abort();
  }
  return 0;
}
