#pragma once

#include <cstdint>
#include <string_view>

namespace trireme {

/// FNV-1a of `text`, going on from `hash`: for comparing, not against an adversary.
inline std::uint64_t fnv1a(std::string_view text, std::uint64_t hash = 14695981039346656037ull) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return hash;
}

/// One-to-one, each bit of the result depending on every bit of `x` (the finalizer of splitmix64,
/// Steele et al. 2014).
constexpr std::uint64_t mix_bits(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

}  // namespace trireme
