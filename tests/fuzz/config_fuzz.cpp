// The config.toml of a run directory from any bytes: a configuration that reads back as it is
// written, or an error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>

#include "trireme/base/error.h"
#include "trireme/config/config.h"

namespace {

trireme::Config read(const std::string& text) {
  return trireme::parse_config(text, "config.toml", {},
                               trireme::Config::Origin::Source::kRunDirectory);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::optional<trireme::Config> config;
  try {
    config = read(std::string(reinterpret_cast<const char*>(data), size));
  } catch (const trireme::UsageError&) {
    return 0;
  }
  const std::string text = to_toml(*config);
  if (to_toml(read(text)) != text) std::abort();
  return 0;
}
