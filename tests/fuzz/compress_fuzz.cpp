// A payload of any bytes, read as that many values as its first two bytes say: it is added whole or
// refused before anything is written, and nothing beyond the values is touched.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "trireme/base/error.h"
#include "trireme/kernels/compress.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::int64_t count = data[0] | data[1] << 8;
  const auto payload = std::as_bytes(std::span(data + 2, size - 2));
  std::vector<float> sum(static_cast<std::size_t>(count), 1.f);
  try {
    trireme::decode_add(payload, count, sum.data());
  } catch (const trireme::DataError&) {
    if (std::any_of(sum.begin(), sum.end(), [](float x) { return x != 1; })) std::abort();
  }
  return 0;
}
