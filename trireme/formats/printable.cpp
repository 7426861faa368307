#include "trireme/formats/printable.h"

#include <fmt/format.h>

namespace trireme {

std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 64;
  std::string out = "\"";
  for (const char c : text.substr(0, kLongest)) {
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (c >= 0x20 && c < 0x7f) {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return out + (text.size() > kLongest ? "...\"" : "\"");
}

}  // namespace trireme
