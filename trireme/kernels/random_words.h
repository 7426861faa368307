#pragma once

#include <array>
#include <cstdint>

#include "trireme/base/random.h"

namespace trireme {

/// Calls body(i, word) for i in [0, count), with the random word of element first + i: a word
/// depends on its element alone, however elements are cut. Four elements share a counter.
template <class Body>
void for_each_word(const CounterRandom& random, std::uint64_t first, std::uint64_t count,
                   const Body& body) {
  constexpr std::uint64_t kWords = 4;
  for (std::uint64_t i = 0; i < count;) {
    const std::uint64_t element = first + i;
    const std::array<std::uint32_t, kWords> words = random.words(element / kWords);
    for (std::uint64_t word = element % kWords; word < kWords && i < count; ++word, ++i) {
      body(i, words[word]);
    }
  }
}

}  // namespace trireme
