// The config.toml of a run directory from any bytes: a configuration that reads back as it is
// written, and in which one value can be changed, or an error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>

#include "trireme/base/error.h"
#include "trireme/config/config.h"
#include "trireme/config/set_value.h"

namespace {

trireme::Config read(const std::string& text) {
  return trireme::parse_config(text, "config.toml", {},
                               trireme::Config::Origin::Source::kRunDirectory);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  std::optional<trireme::Config> config;
  try {
    config = read(bytes);
  } catch (const trireme::UsageError&) {
    return 0;
  }
  const std::string text = to_toml(*config);
  if (to_toml(read(text)) != text) std::abort();
  try {
    const std::string changed = trireme::with_value(bytes, "optimizer.lr", "0.5", "config.toml");
    config->optimizer.lr = 0.5;
    if (to_toml(read(changed)) != to_toml(*config)) std::abort();
  } catch (const trireme::UsageError&) {
    // To be written by hand.
  }
  return 0;
}
