#include "trireme/formats/whole_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "trireme/base/error.h"

namespace trireme {

std::string whole_text(ByteSource& source, std::string_view name, std::size_t most) {
  constexpr std::size_t kChunkBytes = std::size_t{1} << 20;
  std::string text;
  for (std::size_t filled = 0;;) {
    text.resize(filled + kChunkBytes);
    const std::size_t n = source.read({text.data() + filled, kChunkBytes});
    filled += n;
    if (filled > most) {
      throw DataError(fmt::format("{}: must have at most {} bytes, has more", name, most));
    }
    if (n == kChunkBytes) continue;
    text.resize(filled);
    return text;
  }
}

}  // namespace trireme
