// The manifest of a checkpoint from any bytes: one that reads back as it is written, its typed
// sections included, or an error. A file must name its own hash, which no mutation finds: its
// content alone is mutated, and the file made of it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "trireme/base/error.h"
#include "trireme/checkpoint/manifest.h"

namespace {

// Returns whether the file of `manifest` is read without an error.
bool reads_back(const trireme::Manifest& manifest) {
  try {
    const auto read = trireme::parse_manifest(to_file(manifest), "manifest.json");
    if (to_json(read) != to_json(manifest)) std::abort();
    return true;
  } catch (const trireme::DataError&) {
    return false;
  }
}

bool is_consistent(const trireme::Manifest& manifest) {
  try {
    check(manifest);
    return true;
  } catch (const trireme::UsageError&) {
    return false;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    trireme::parse_manifest(text, "manifest.json");
  } catch (const trireme::DataError&) {
  }
  try {
    const trireme::Manifest manifest = trireme::parse_part(text);
    if (to_json(trireme::parse_part(to_json(manifest))) != to_json(manifest)) std::abort();
    if (reads_back(manifest) != is_consistent(manifest)) std::abort();
  } catch (const trireme::UsageError&) {
  }
  return 0;
}
