#pragma once

#include <cstdint>
#include <string_view>

namespace trireme {

/// FNV-1a of `text`, going on from `hash`: for comparing, not against an adversary.
inline std::uint64_t fnv1a(std::string_view text, std::uint64_t hash = 14695981039346656037ull) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return hash;
}

}  // namespace trireme
