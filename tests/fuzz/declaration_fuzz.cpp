// A declaration of any bytes: one that passes its checks, and is read back as it is written, or a
// DataError.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "trireme/base/error.h"
#include "trireme/server/model_schema.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto model = trireme::server::parse_schema({reinterpret_cast<const char*>(data), size});
    check(model);
    if (!difference(model, trireme::server::parse_schema(to_json(model))).empty()) {
      std::abort();
    }
  } catch (const trireme::DataError&) {
  }
  return 0;
}
