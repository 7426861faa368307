// Any bytes as a gzip stream: the result has at most at_most() bytes, or is a DataError.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "trireme/base/error.h"
#include "trireme/formats/gzip.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const auto source = trireme::inflate(trireme::bytes_of(bytes), "fuzz.gz");
    const std::int64_t most = source->at_most();
    std::array<char, 1000> piece;
    std::int64_t total = 0;
    for (std::size_t got = piece.size(); got == piece.size();) {
      got = source->read(piece);
      total += static_cast<std::int64_t>(got);
      if (total > most) std::abort();
    }
  } catch (const trireme::DataError&) {
  }
  return 0;
}
