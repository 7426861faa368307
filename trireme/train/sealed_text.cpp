#include "trireme/train/sealed_text.h"

#include "trireme/base/sha256.h"

namespace trireme {

namespace {

constexpr std::string_view kSeal = "# SHA-256 of the lines above: ";

}  // namespace

std::string sealed(std::string text) {
  const std::string digest = sha256(text);
  return text.append(kSeal).append(digest).append("\n");
}

bool is_sealed(std::string_view text) {
  const std::size_t seal = text.rfind(kSeal);
  return seal != std::string_view::npos && sealed(std::string(text.substr(0, seal))) == text;
}

}  // namespace trireme
